//! What `init` writes: the configuration and a file for each secret, whole or not at all, for the service's eyes.

use super::super::Failure;
use super::Answers;
use anyhow::Context;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Whose the service's files are.
const GROUP: &str = "deskspool";
/// Where Freshdesk's key is.
pub(super) const KEY_FILE: &str = "freshdesk_api_key";

/// Where everything goes.
pub(super) struct Home {
    /// Absolute.
    pub config: PathBuf,
    /// Beside it.
    pub secrets: PathBuf,
    /// The service's group, where it exists and is ours to give.
    pub group: Option<u32>,
}

impl Home {
    pub(super) fn of(config: &Path) -> Result<Home, Failure> {
        let config = std::path::absolute(config)?;
        let secrets = config.parent().unwrap_or(Path::new("/")).join("secrets");
        let group = rustix::process::geteuid().is_root().then(group_number).flatten();
        Ok(Home { config, secrets, group })
    }

    /// A secret that is there already.
    pub(super) fn existing(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.secrets.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// `0640 root:deskspool`, for people.
    pub(super) fn modes(&self) -> &'static str {
        if self.group.is_some() { "0640 root:deskspool" } else { "0600" }
    }

    /// Files of root's that the service cannot read.
    pub(super) fn lacks_group(&self) -> bool {
        let is_usual = self.config == Path::new(super::super::CONFIG_DEFAULT);
        is_usual && self.group.is_none() && rustix::process::geteuid().is_root()
    }

    fn mode(&self) -> u32 {
        if self.group.is_some() { 0o640 } else { 0o600 }
    }

    fn make_directory(&self, path: &Path) -> anyhow::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let mode = if self.group.is_some() { 0o750 } else { 0o700 };
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.and_then(|()| self.give(path)).with_context(|| format!("{} cannot be made", path.display()))
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        match self.group {
            Some(group) => chown(path, None, Some(group)),
            None => Ok(()),
        }
    }

    /// Beside its place first, so that a full disk leaves what was there.
    fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let new = PathBuf::from(format!("{}.new", path.display()));
        let written = || -> io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            self.give(&new)?;
            file.set_permissions(fs::Permissions::from_mode(self.mode()))?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        written().with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Of the service's group; the file is what every tool here reads first.
fn group_number() -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&GROUP))?.get(2)?.parse().ok()
}

/// Nobody guesses it: 192 bits.
pub(super) fn random() -> Result<String, Failure> {
    let mut bytes = [0; 24];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("this machine has no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Secrets first, so that there is never a configuration without them; the paths of the secrets.
pub(super) fn write(home: &Home, answers: &Answers) -> Result<Vec<PathBuf>, Failure> {
    home.make_directory(home.config.parent().unwrap_or(Path::new("/")))?;
    home.make_directory(&home.secrets)?;
    let mut secrets = vec![(KEY_FILE.to_owned(), answers.api_key.as_str())];
    for source in &answers.sources {
        secrets.push((source.name.clone(), &source.secret));
        secrets.extend(
            source.verify_token.as_ref().map(|token| (format!("{}_verify", source.name), token.as_str())),
        );
    }
    let mut paths = Vec::new();
    for (name, secret) in secrets {
        let path = home.secrets.join(name);
        home.write(&path, &format!("{secret}\n"))?;
        paths.push(path);
    }
    if home.config.exists() {
        let old = PathBuf::from(format!("{}.old", home.config.display()));
        fs::rename(&home.config, &old)
            .with_context(|| format!("{} cannot be kept", home.config.display()))?;
    }
    home.write(&home.config, &text(home, answers))?;
    Ok(paths)
}

/// The configuration.
fn text(home: &Home, answers: &Answers) -> String {
    // What JSON quotes, TOML reads.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let file = |name: &str| quoted(&home.secrets.join(name).display().to_string());
    let mut text = format!(
        "# {}, begun by `deskspool init`.\n#\n# Every key with its default: man deskspool.toml. Check a change with \
         `deskspool check`, apply it with\n# `systemctl reload deskspool`. Secrets are files that only root and the \
         service read; a new one needs a reload.\n\n",
        home.config.display()
    );
    let (word, desk) = &answers.desk;
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    line("[freshdesk]".to_owned());
    line(format!("{word:<7} = {}", quoted(desk)));
    line(format!("api_key = {{ file = {} }}", file(KEY_FILE)));
    if let Some(url) = &answers.public_url {
        line(format!("\n[server]\npublic_url      = {}", quoted(url)));
        line("trusted_proxies = [\"127.0.0.1\"]      # nginx or caddy here says who called".to_owned());
    }
    if let Some(spool) = &answers.spool {
        line(format!("\n[spool]\ndir = {}", quoted(&spool.display().to_string())));
    }
    for source in &answers.sources {
        line(format!("\n[source.{}]", source.name));
        line(format!("preset = {}", quoted(source.preset.name)));
        line(format!("secret = {{ file = {} }}", file(&source.name)));
        if source.verify_token.is_some() {
            line(format!("verify_token = {{ file = {} }}", file(&format!("{}_verify", source.name))));
        }
    }
    text
}
