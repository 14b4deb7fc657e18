//! The daemon as somebody runs it by hand, and what the verbs say then: a test for each thing that was wrong.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

const DESKSPOOL: &str = env!("CARGO_BIN_EXE_deskspool");
/// Nobody listens there, so nothing is ever delivered.
const CONFIG: &str = "[freshdesk]\nurl = \"http://127.0.0.1:1\"\napi_key = \"key\"\n\n\
    [spool]\ndir = \"SPOOL\"\ndisk_free_min = \"1MiB\"\n\n\
    [source.generic]\npreset = \"generic@1\"\nsecret = \"word\"\n\n\
    [server]\nlisten = \"127.0.0.1:0\"\n\n[status_page]\nlisten = \"off\"\n";

/// A running `deskspool serve` in a directory of its own.
struct Served {
    home: tempfile::TempDir,
    daemon: Child,
}

impl Served {
    fn start() -> Served {
        let home = tempfile::tempdir().expect("a temporary directory");
        let spool = home.path().join("spool").display().to_string();
        let config = home.path().join("deskspool.toml");
        std::fs::write(&config, CONFIG.replace("SPOOL", &spool)).expect("write the configuration");
        let mut daemon = Command::new(DESKSPOOL)
            .arg("serve")
            .env("DESKSPOOL_CONFIG", &config)
            .env_remove("DESKSPOOL_SOCKET")
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the daemon");
        let mut log = BufReader::new(daemon.stderr.take().expect("it is piped")).lines();
        let is_up = log.any(|line| line.is_ok_and(|line| line.contains(" is up ")));
        // What else it says must not block it.
        std::thread::spawn(move || log.for_each(drop));
        assert!(is_up, "the daemon did not come up");
        Served { home, daemon }
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("deskspool.toml")
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("spool/control.sock")
    }

    /// Appends to the configuration and reloads it; what was said.
    fn reload_with(&self, more: &str) -> String {
        let text = CONFIG.replace("SPOOL", &self.home.path().join("spool").display().to_string());
        std::fs::write(self.config(), text + more).expect("write the configuration");
        said(&self.run(&["reload"]))
    }

    fn run(&self, verb: &[&str]) -> Output {
        let mut command = Command::new(DESKSPOOL);
        command.args(verb).env("DESKSPOOL_CONFIG", self.config()).env("DESKSPOOL_SOCKET", self.socket());
        command.stdin(Stdio::null()).output().expect("run the verb")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_spool_made_by_hand_is_for_nobody_else() {
    let served = Served::start();
    let spool = std::fs::metadata(served.home.path().join("spool")).expect("the spool is there");
    assert_eq!(spool.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_restart_that_is_needed_is_told_until_it_is_not() {
    let served = Served::start();
    let needed = "needs a restart: delivery.workers (4 → 2)";
    let few = "\n[delivery]\nworkers = 2\n";
    assert_eq!(served.reload_with(few), format!("reloaded: nothing changed\n{needed}\n"));
    let fewer_days = format!("{few}give_up_after = \"1d\"\n");
    assert_eq!(
        served.reload_with(&fewer_days),
        format!("reloaded: delivery.give_up_after changed\n{needed}\n")
    );
    assert_eq!(served.reload_with(""), "reloaded: delivery.give_up_after changed\n");
}

#[test]
fn an_envelope_that_does_not_wait_is_told_so_and_nothing_is_asked() {
    let served = Served::start();
    let why = "error: 9 waits for nothing: it is settled, or there never was one (deskspool show 9)\n";
    for (verb, what) in [("retry", "no envelope is due because of this\n"), ("drop", "0 dropped: none\n")] {
        let output = served.run(&[verb, "9"]);
        assert_eq!((said(&output), output.status.code()), (format!("{what}{why}"), Some(1)), "{verb}");
    }
}

#[test]
fn a_check_without_a_file_has_no_empty_line() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let absent = home.path().join("absent.toml");
    let output = Command::new(DESKSPOOL).arg("check").arg(&absent).output().expect("run the check");
    let said = said(&output);
    assert!(said.contains(&format!("  error {} does not exist\n", absent.display())), "{said}");
    assert!(!said.lines().any(|line| line.trim() == "ok"), "{said}");
}

#[test]
fn a_check_that_cannot_ask_freshdesk_says_so() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("deskspool.toml");
    let spool = home.path().display().to_string();
    let text = CONFIG.replace("SPOOL", &spool).replace("\"key\"", "{ credential = \"freshdesk_api_key\" }");
    std::fs::write(&path, text).expect("write the configuration");
    let mut check = Command::new(DESKSPOOL);
    check.arg("check").arg(&path).env_remove("CREDENTIALS_DIRECTORY").env_remove("INVOCATION_ID");
    let said = said(&check.output().expect("run the check"));
    assert!(said.contains("  skip  freshdesk: not asked, systemd passes credentials"), "{said}");
}
