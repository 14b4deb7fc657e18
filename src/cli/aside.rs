//! `deskspool hold`, `release`, `pause` and `resume`: what is set aside for a while, carried out by the daemon.

use super::change::{ChangeArgs, report};
use super::render::Screen;
use super::{FINE, Failure, Global, Outcome};
use crate::config::units::parse_duration;
use crate::control::view::{Aside, Done, Selection};
use clap::Args;

/// `deskspool hold`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HOLD_EXAMPLES)]
pub struct HoldArgs {
    #[command(flatten)]
    which: ChangeArgs,
    #[command(flatten)]
    why: WhyArgs,
}

/// `deskspool release`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HOLD_EXAMPLES)]
pub struct ReleaseArgs {
    #[command(flatten)]
    which: ChangeArgs,
}

/// `deskspool pause`.
#[derive(Args, Clone, Debug)]
#[command(after_help = PAUSE_EXAMPLES)]
pub struct PauseArgs {
    /// intake, delivery, or the name of a source
    what: String,
    #[command(flatten)]
    why: WhyArgs,
}

/// `deskspool resume`.
#[derive(Args, Clone, Debug)]
#[command(after_help = PAUSE_EXAMPLES)]
pub struct ResumeArgs {
    /// intake, delivery, or the name of a source
    what: String,
}

/// Why, and for how long.
#[derive(Args, Clone, Debug)]
struct WhyArgs {
    /// Shown in status, queue and show
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Ends by itself after so long: 90s, 15m, 2h, 30d
    #[arg(long = "for", value_name = "TIME")]
    for_time: Option<String>,
}

const HOLD_EXAMPLES: &str = "\
Examples:
  deskspool hold 10432 10433 --reason \"asking the customer\"
  deskspool hold --source contako --for 2h     they are released by themselves
  deskspool release --all                      all that are held
  deskspool release --source contako

Held envelopes keep their place in their conversation; what follows them waits too.
Dead ones are not held, and release leaves alone what is not held.
--json: {\"touched\":N,\"by_source\":{…},\"in_flight\":[…],\"unknown\":[…],\"unsuited\":[…]}
Exit codes: 0 done, 1 some could not be touched, 2 usage, 3 daemon not reachable.";

const PAUSE_EXAMPLES: &str = "\
Examples:
  deskspool pause intake --reason migrating --for 30m    platforms get 503 and keep their events
  deskspool pause delivery                     events are taken and wait; nothing is asked of Freshdesk
  deskspool pause contako                      events of one source are taken and held
  deskspool resume intake

A pause survives a restart. While there is one, status says so and exits with 1.
--json: {\"text\":…}
Exit codes: 0 done, 1 there is nothing of that name, 3 daemon not reachable.";

impl WhyArgs {
    fn for_seconds(&self) -> Result<Option<u64>, Failure> {
        let Some(text) = &self.for_time else { return Ok(None) };
        let parsed = parse_duration(text).map(|duration| duration.as_secs()).filter(|seconds| *seconds > 0);
        let wrong =
            || Failure::Usage(format!("--for {text}: expected a duration such as 90s, 15m, 2h or 30d"));
        parsed.map(Some).ok_or_else(wrong)
    }

    fn reason(&self) -> String {
        self.reason.clone().unwrap_or_default()
    }
}

/// Sets envelopes aside.
pub fn hold(global: &Global, args: &HoldArgs, screen: &mut Screen) -> Outcome {
    let aside = Aside {
        selection: args.which.selection()?,
        reason: args.why.reason(),
        for_seconds: args.why.for_seconds()?,
        ..Aside::default()
    };
    let done: Done = serde_json::from_str(&global.daemon().post("/hold", &serde_json::to_string(&aside)?)?)?;
    let until = args.why.for_time.as_ref().map(|time| format!(" for {time}")).unwrap_or_default();
    let sentence = match done.touched {
        0 => "nothing is held because of this".to_owned(),
        count => format!("{count} held{until}. Let them go: deskspool release --all"),
    };
    report(global, &done, &sentence, screen)
}

/// Makes held envelopes due now.
pub fn release(global: &Global, args: &ReleaseArgs, screen: &mut Screen) -> Outcome {
    let selection: Selection = args.which.selection()?;
    let answer = global.daemon().post("/release", &serde_json::to_string(&selection)?)?;
    let done: Done = serde_json::from_str(&answer)?;
    let sentence = match done.touched {
        0 => "nothing is released because of this".to_owned(),
        count => format!("{count} released, due now. Watch: deskspool queue"),
    };
    report(global, &done, &sentence, screen)
}

/// Stops intake, delivery or a source.
pub fn pause(global: &Global, args: &PauseArgs, screen: &mut Screen) -> Outcome {
    let aside = Aside {
        what: args.what.clone(),
        reason: args.why.reason(),
        for_seconds: args.why.for_seconds()?,
        ..Aside::default()
    };
    tell(global, (&pause_target(), &aside), screen)
}

/// Where a pause is asked for, and by whom: the user, or the one who became another by sudo. Who may ask at all may do
/// everything, so this is for those who read `status`, and no proof.
pub(super) fn pause_target() -> String {
    let user = rustix::process::geteuid().as_raw();
    let sudo = std::env::var("SUDO_USER").ok();
    let name = sudo.or_else(|| name_of(user, &std::fs::read_to_string("/etc/passwd").ok()?));
    let name = name.unwrap_or_else(|| format!("user {user}"));
    form_urlencoded::Serializer::new("/pause?".to_owned()).append_pair("by", &name).finish()
}

/// The name of a user in a table like `/etc/passwd`.
fn name_of(user: u32, table: &str) -> Option<String> {
    let number = user.to_string();
    let mut names = table.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    names.next().map(str::to_owned)
}

/// Ends a pause.
pub fn resume(global: &Global, args: &ResumeArgs, screen: &mut Screen) -> Outcome {
    let aside = Aside { what: args.what.clone(), ..Aside::default() };
    tell(global, ("/resume", &aside), screen)
}

fn tell(global: &Global, (verb, aside): (&str, &Aside), screen: &mut Screen) -> Outcome {
    let answer = global.daemon().post(verb, &serde_json::to_string(aside)?)?;
    if global.json {
        screen.line(&answer)?;
    } else if !global.quiet {
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        screen.line(answer["text"].as_str().unwrap_or_default())?;
    }
    Ok(FINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_the_names_of_the_table() {
        let table = "root:x:0:0:root:/root:/bin/bash\nbroken\nana:x:1000:1000:Ana,,,:/home/ana:/bin/sh\n";
        let check = |user, expect: Option<&str>| assert_eq!(name_of(user, table).as_deref(), expect);
        check(0, Some("root"));
        check(1000, Some("ana"));
        check(100, None);
    }
}
