//! Secrets by reference: from systemd, from a file that not everybody reads, from the environment.
//!
//! **Invariant:** no secret leaves through `Debug`, a finding or an error. A reference is resolved once,
//! when the configuration is loaded.

use super::finding::Finding;
use crate::source::table::SecretRef;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a secret at most.
const SECRET_BYTES_MAX: u64 = 64 << 10;

pub use crate::verify::Secret;

/// Where secrets are looked for; a test brings its own.
pub struct Surroundings {
    /// `$CREDENTIALS_DIRECTORY`, which systemd sets for the service.
    pub credentials_directory: Option<PathBuf>,
    /// Whether this is the service itself, which must see its credentials and own its spool. An admin who
    /// checks a configuration from a shell need not.
    pub service: bool,
    /// Reads an environment variable.
    pub variable: fn(&str) -> Option<String>,
}

impl Surroundings {
    /// What this process was started with.
    pub fn of_process() -> Surroundings {
        Surroundings {
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            service: true,
            variable: |name| std::env::var(name).ok(),
        }
    }

    /// The same for `deskspool check`: it speaks for the service when systemd passed it the credentials, as
    /// in `ExecStartPre=`; in a shell there are none, and that is nobody's fault.
    pub fn of_check() -> Surroundings {
        let process = Surroundings::of_process();
        Surroundings { service: process.credentials_directory.is_some(), ..process }
    }
}

/// One resolved reference.
pub(super) enum Resolved {
    /// The secret, and a warning where it should stand elsewhere.
    Found(Secret, Option<Finding>),
    /// Not there.
    Missing(Finding),
    /// A credential, and this is not the service.
    Unseen,
}

/// Follows the reference under `key`; `file_name` is what its file is best called.
pub(super) fn resolve(key: &str, reference: &SecretRef, file_name: &str, around: &Surroundings) -> Resolved {
    let found = match reference {
        SecretRef::Credential(_) if !around.service && around.credentials_directory.is_none() => {
            return Resolved::Unseen;
        }
        SecretRef::Credential(named) => credential(key, &named.credential, file_name, around),
        SecretRef::File(named) => file(key, &named.file),
        SecretRef::Env(named) => (around.variable)(&named.env)
            .map(String::into_bytes)
            .ok_or_else(|| Finding::error(key, format!("environment variable {} is not set", named.env))),
        SecretRef::Inline(text) => Ok(text.clone().into_bytes()),
    };
    let bytes = match found {
        Ok(bytes) => trimmed(bytes),
        Err(finding) => return Resolved::Missing(finding),
    };
    if bytes.is_empty() {
        return Resolved::Missing(Finding::error(key, format!("{} is empty", described(reference))));
    }
    let inline = matches!(reference, SecretRef::Inline(_)).then(|| {
        Finding::warning(
            key,
            format!("the secret is in the file itself, better {{ credential = \"{file_name}\" }}"),
        )
    });
    Resolved::Found(Secret::new(bytes), inline)
}

pub(super) fn described(reference: &SecretRef) -> String {
    match reference {
        SecretRef::Credential(named) => format!("credential \"{}\"", named.credential),
        SecretRef::File(named) => named.file.display().to_string(),
        SecretRef::Env(named) => format!("environment variable {}", named.env),
        SecretRef::Inline(_) => "the secret".to_owned(),
    }
}

/// Editors and `echo` end a file with a newline that is not part of the secret.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    bytes
}

fn credential(key: &str, name: &str, file_name: &str, around: &Surroundings) -> Result<Vec<u8>, Finding> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(Finding::error(key, "a credential's name is a plain file name, as in LoadCredential="));
    }
    let Some(directory) = &around.credentials_directory else {
        return Err(not_passed(key, name, file_name));
    };
    read(&directory.join(name)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => not_passed(key, name, file_name),
        _ => Finding::error(key, format!("credential \"{name}\" cannot be read: {}", plain(&error))),
    })
}

fn not_passed(key: &str, name: &str, file_name: &str) -> Finding {
    Finding::error(key, format!("credential \"{name}\" was not passed by systemd"))
        .help(format!("add to the unit:  LoadCredential={name}:/etc/deskspool/secrets/{file_name}"))
        .help("then:             systemctl daemon-reload && systemctl restart deskspool")
}

fn file(key: &str, path: &Path) -> Result<Vec<u8>, Finding> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(Finding::error(key, format!("file = \"{shown}\" must be an absolute path")));
    }
    let mend = format!("chmod 0640 {shown}; chgrp deskspool {shown}");
    let unreadable = |error: std::io::Error| {
        let finding = Finding::error(key, format!("{shown} cannot be read: {}", plain(&error)));
        if error.kind() == ErrorKind::PermissionDenied { finding.help(mend.clone()) } else { finding }
    };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o006 != 0 {
        let verb = if mode & 0o004 != 0 { "readable" } else { "writable" };
        return Err(Finding::error("", format!("{shown} is {verb} by everyone (mode {mode:04o})")).help(mend));
    }
    read(path).map_err(unreadable)
}

pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is not a plain file"));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, "it is larger than 64 KiB"));
    }
    fs::read(path)
}

/// An error without the operating system's number.
pub(super) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it does not exist".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::table::{CredentialRef, EnvRef, FileRef};

    fn around(directory: Option<&Path>) -> Surroundings {
        Surroundings {
            credentials_directory: directory.map(Path::to_owned),
            service: true,
            variable: |name| (name == "KNOWN").then(|| "from env".to_owned()),
        }
    }

    /// What a reference comes to: the secret, or the message; then the warning.
    fn outcome(reference: &SecretRef, around: &Surroundings) -> (String, Option<String>) {
        match resolve("source.b2chat.secret", reference, "b2chat", around) {
            Resolved::Found(secret, warning) => {
                (String::from_utf8_lossy(secret.expose()).into_owned(), warning.map(|w| w.to_string()))
            }
            Resolved::Missing(finding) => (finding.to_string(), None),
            Resolved::Unseen => ("unseen".to_owned(), None),
        }
    }

    fn credential_of(name: &str) -> SecretRef {
        SecretRef::Credential(CredentialRef { credential: name.to_owned() })
    }

    fn file_with(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).expect("write a secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set its mode");
        path
    }

    #[test]
    fn credentials() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        file_with(directory.path(), "good", "s3cret\n", 0o400);
        file_with(directory.path(), "empty", "\n", 0o400);
        let there = around(Some(directory.path()));
        assert_eq!(outcome(&credential_of("good"), &there), ("s3cret".to_owned(), None));
        assert_eq!(
            outcome(&credential_of("empty"), &there).0,
            "error: source.b2chat.secret: credential \"empty\" is empty"
        );
        let missing = "error: source.b2chat.secret: credential \"b2chat_token\" was not passed by systemd\n   \
            = add to the unit:  LoadCredential=b2chat_token:/etc/deskspool/secrets/b2chat\n   \
            = then:             systemctl daemon-reload && systemctl restart deskspool";
        assert_eq!(outcome(&credential_of("b2chat_token"), &there).0, missing);
        assert_eq!(outcome(&credential_of("b2chat_token"), &around(None)).0, missing);
        assert!(outcome(&credential_of("../good"), &there).0.contains("plain file name"));
    }

    #[test]
    fn a_shell_has_no_credentials_and_that_is_no_fault() {
        let shell = Surroundings { service: false, ..around(None) };
        assert_eq!(outcome(&credential_of("x"), &shell).0, "unseen");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let passed = Surroundings { service: false, ..around(Some(directory.path())) };
        assert!(outcome(&credential_of("x"), &passed).0.contains("was not passed"));
    }

    #[test]
    fn files_must_be_absolute_and_not_for_everyone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let check = |path: PathBuf, expect: String| {
            assert_eq!(outcome(&SecretRef::File(FileRef { file: path }), &around(None)).0, expect);
        };
        check(file_with(directory.path(), "good", "a b\r\n", 0o640), "a b".to_owned());
        let open = file_with(directory.path(), "open", "x", 0o644);
        let shown = open.display().to_string();
        check(
            open,
            format!(
                "error: {shown} is readable by everyone (mode 0644)\n   = chmod 0640 {shown}; chgrp deskspool {shown}"
            ),
        );
        let shown = directory.path().join("none");
        check(
            shown.clone(),
            format!("error: source.b2chat.secret: {} cannot be read: it does not exist", shown.display()),
        );
        check(
            PathBuf::from("x"),
            "error: source.b2chat.secret: file = \"x\" must be an absolute path".to_owned(),
        );
    }

    #[test]
    fn environment_and_inline() {
        let env = |name: &str| SecretRef::Env(EnvRef { env: name.to_owned() });
        assert_eq!(outcome(&env("KNOWN"), &around(None)).0, "from env");
        assert_eq!(
            outcome(&env("OTHER"), &around(None)).0,
            "error: source.b2chat.secret: environment variable OTHER is not set"
        );
        let (secret, warning) = outcome(&SecretRef::Inline("abc".to_owned()), &around(None));
        assert_eq!(secret, "abc");
        let warning = warning.expect("an inline secret is warned of");
        assert!(!warning.contains("abc"), "{warning}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret::new("abc")), "Secret");
    }
}
