//! The ends of `--help`: examples, and what is worth knowing beside the options. Verbs with much to say have theirs
//! in their own file.

/// Of `deskspool serve`.
pub(super) const SERVE: &str = "\
Examples:
  systemctl enable --now deskspool             as a service, with the unit of the package
  deskspool --config ./try.toml serve          in a terminal; Ctrl-C stops in order
  DESKSPOOL_LOG=debug deskspool serve          says more; also deskspool::gate=debug

SIGHUP reads the configuration again, SIGTERM and SIGINT stop: no more events, attempts end for delivery.stop_timeout.
Exit codes: 0 stopped, 1 the configuration has an error, or the spool or an address cannot be had.";

/// Of `deskspool reload`.
pub(super) const RELOAD: &str = "\
Examples:
  systemctl reload deskspool                   the same; fails when the configuration has an error
  deskspool check && deskspool reload          look first
  deskspool reload --json                      {\"text\":…}

All of it is applied, or nothing, and the old one goes on. What waits is mapped with the new one.
Exit codes: 0 applied, 1 not applied, 3 daemon not reachable.";

/// Of `deskspool status`.
pub(super) const STATUS: &str = "\
Examples:
  deskspool status                             one screen; the last lines say what to type
  deskspool status --quiet || mail-me          in a script: the exit code is the answer
  deskspool status --json                      one object, the same as /status.json of the page

Exit codes: 0 nothing needs you, 1 something does, 3 daemon not reachable.";

/// Of `deskspool queue`.
pub(super) const QUEUE: &str = "\
Examples:
  deskspool queue                              what waits, oldest first
  deskspool queue --state dead --source contako
  deskspool queue --state delivered --since 2h
  deskspool queue --match ana@example.com      in id, platform's event id, requester or error
  deskspool queue --json                       {\"id\":…,\"state\":…,\"source\":…,\"conversation\":…,…} per line

States: queued = due now, in-flight = being sent, deferred = waiting for the next try, held = set aside, dead = needs you,
delivered and dropped = history.";

/// Of `deskspool show`.
pub(super) const SHOW: &str = "\
Examples:
  deskspool show 10432                         where it stands, its attempts, what it will do
  deskspool show 10432 --body                  the event as it came; customer text
  deskspool show 10432 --ticket                Freshdesk's fields as they would be sent
  deskspool show 10432 --json

Exit codes: 0 fine, 1 there is no such envelope, or its event is not held any more, 3 daemon not reachable.";

/// Of `deskspool retry`.
pub(super) const RETRY: &str = "\
Examples:
  deskspool retry 10432 10433
  deskspool retry --state dead --source contako      after its mapping was mended
  deskspool retry --all                              everything that waits, at Freshdesk's pace
  deskspool retry --state dead --json                {\"touched\":…,\"by_source\":{…},…}

Attempts are counted from zero again. Exit codes: 0 fine, 1 some could not be, 2 nothing was named.";

/// Of `deskspool drop`.
pub(super) const DROP: &str = "\
Examples:
  deskspool drop 10432                         asks
  deskspool drop --state dead --until 30d --yes      dead for a month, in a script
  deskspool drop --match 'no-reply@' --yes

They stay in history, as dropped, for spool.keep_delivered. Exit codes: 0 fine, 1 some could not be, 2 nothing was named.";

/// Of `deskspool salvage`.
pub(super) const SALVAGE: &str = "\
Examples:
  systemctl stop deskspool && deskspool salvage
  deskspool salvage /mnt/old/var/lib/deskspool       a spool of a disk that is saved
  deskspool salvage --json                           {\"saved\":…,\"missing\":[…],\"damaged\":[…],…}

What cannot be read is kept aside, nothing is thrown away. Exit codes: 0 all was saved, 1 something is missing.";

/// Of `deskspool demo`.
pub(super) const DEMO: &str = "\
Examples:
  deskspool demo                               stays up until Ctrl-C; its pages can be looked at
  deskspool demo --once                        ends when the tickets are there

Everything is in a directory of its own that goes when it ends. Nothing leaves this machine.";

#[cfg(test)]
mod tests {
    #[test]
    fn every_verb_ends_its_help_in_examples() {
        let root = crate::cli::command();
        let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
        for verb in verbs {
            let end = verb.get_after_long_help().or(verb.get_after_help()).map(ToString::to_string);
            let end = end.unwrap_or_default();
            let example = format!("deskspool {}", verb.get_name());
            let is_shown = end.contains(&example) || end.contains("deskspool --config");
            assert!(is_shown || verb.get_name() == "sandbox", "{}: {end}", verb.get_name());
            assert!(end.lines().all(|line| line.chars().count() <= 126), "{}: a long line", verb.get_name());
        }
    }
}
