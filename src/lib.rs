//! deskspool receives webhooks from chat and call platforms, stores each event on its own disk, and turns it into
//! Freshdesk tickets and notes, however long Freshdesk or the line is down. This page is the map of the inside;
//! `README.md` is for those who run it.
//!
//! **The promise: when a platform has our 200, the event is on disk, synced, and will become its Freshdesk write
//! exactly once, or a visible dead letter.** Every rule below serves it.
//!
//! # The road of an event
//!
//! ```text
//!  platform ──▶ gate ──▶ intake ──▶ spool ──▶ dispatch ──▶ freshdesk ──▶ Freshdesk
//!               │        │          │         │            │
//!    complete,  │  verify, decode,  │   due head of its     └ one call, at most one request;
//!    bounded,   │  source.events()  │   conversation,         bytes that left are counted
//!    unambiguous│  (split, filter,  │   source.plan(),
//!    requests   │   ids)            │   look if in doubt,
//!    only       │                   │   write, settle
//!               └▶ tiny_http        └ append to the journal, one fdatasync for all
//!                  on a private       who wait, then the 200; the queue (sled) says
//!                  Unix socket        what is due and can be rebuilt from the journal
//! ```
//!
//! Events are stored raw and mapped when they are delivered. So a wrong template costs a dead letter and
//! `deskspool retry`, never a customer's message.
//!
//! # The rooms
//!
//! | room | owns | never does |
//! |---|---|---|
//! | [`gate`] | the public listener: an accept loop that never ends by itself, caps, absolute deadlines, TLS, strict framing, the relay to tiny_http | know sources, touch the spool |
//! | [`intake`] | tiny_http and its handlers: route, verify, decode, split, filter, put, answer after the sync | Freshdesk, ticket templates, wait for the disk |
//! | [`verify`] | who may post: secrets in headers, queries and paths, signatures, signed times, lists of addresses; constant time; handshakes | know platforms beyond the names of schemes |
//! | [`decode`] | bytes to JSON, whatever the header claims: JSON, forms, multipart, JSON inside a form, charsets, gzip and deflate with a limit | decide what an event means, quote a body |
//! | [`source`] | a compiled source, the preset with the admin's overlay: [`events`](source::Source::events) and [`plan`](source::Source::plan), both pure; `source/presets/*.toml` is what is known of platforms | I/O, the clock, chance |
//! | [`spool`] | durable envelopes: journal (the truth) and queue (sled), group commit, duplicates, conversation → ticket, recovery, limits | HTTP, configuration, templates |
//! | [`dispatch`] | the delivery loop: lease, plan, look, write, settle; budget, pauses and probe of the account | open sockets itself |
//! | [`backoff`] | how long to wait before the next attempt | sleep |
//! | [`freshdesk`] | the API client: requests, what an answer means, looking for what may have been written | retry |
//! | [`config`] | `deskspool.toml` and `conf.d`: typed tables, secrets, every message about them, what a reload changes | side effects beyond reading |
//! | [`capture`] | real requests for an admin who waits for one, the last ones for the page's preview | keep anything when nobody may see it, see a secret |
//! | [`pauses`] | what an admin has set aside, who, and until when; survives a restart | carry it out |
//! | [`control`] | the Unix control socket: the one implementation of the admin's verbs, and its client | render for people |
//! | [`status`] | counters, the history rings, and the one snapshot that command line, page, metrics and status line show; the page's listener | change another room |
//! | [`alert`] | what needs a person and has been told: once per matter, once more when it is over | decide how to leave the house |
//! | [`page`] | the status page: what it answers to which request, and how it looks | keep numbers of its own, let markup through |
//! | [`trial`] | a request run through verify and map for people: which rule, which calls, what was missing | store or send anything |
//! | [`cli`] | a file per verb; tables, ages, colour; the demo | touch the spool while a daemon runs: it asks that |
//! | [`daemon`] | the wiring: from a configuration to running rooms, reload, and back down in order | any room's work |
//! | [`sandbox`] | the local stand-in for Freshdesk: demo, dry runs, tests | live in the delivery path |
//! | [`html`] | escaping, and what of others' markup may stand on a page of ours | build pages |
//! | [`clock`] | time behind a trait, and how ages are spelled | |
//! | [`systemd`] | sockets it passes, readiness, status line, watchdog, log lines with priorities and fields | anything when systemd did not start us |
//!
//! Names point one way, from the bottom of this list of layers to its top, and `tests/architecture.rs` holds the
//! exact table: `clock html backoff verify decode gate capture pauses` · `freshdesk spool` · `source` · `config dispatch` · `status` ·
//! `intake` · `trial control` · `alert page` · `daemon` · `cli`. Only `spool/tables.rs` names sled, only [`freshdesk`] and the
//! control socket's client name ureq, only [`intake`], [`control`] and [`status`] name tiny_http, and only [`clock`] asks for the time
//! (deadlines of the gate's sockets excepted).
//!
//! # The states of an envelope
//!
//! ```text
//!                         ┌───────────────────── retry ◀───────────────────────┐
//!                         ▼                                                    │
//!  put, synced ───────▶ queued ──▶ in flight ──┬─ all is written ──▶ delivered │
//!                         ▲          ▲         ├─ never will be ───▶ dead ─────┤
//!                         │          └── due ◀─┼─ not now ─────────▶ deferred ─┤
//!                         └── source is back ◀─┴─ no such source ──▶ held ─────┘
//! ```
//!
//! One envelope of a conversation is in flight, with those behind it whose notes go out in its own, and it is the
//! conversation's head: the oldest that is not settled
//! (dead ones are passed over unless `delivery.after_dead = "wait"`). A plan may be several writes; what is done is
//! recorded after each, and a retry goes on behind it. What intake cannot understand is put as dead. A crash leaves
//! what was in flight where it was before, in doubt if its attempt had begun. `drop` takes what is not in flight to
//! where the delivered ones are: history, for `spool.keep_delivered`.
//!
//! # What can fail, and what becomes of the event
//!
//! | where | what | the event |
//! |---|---|---|
//! | gate | no descriptor, no thread, table full | waits in the kernel's backlog, or pushes out the connection that has been unfinished longest, or 503: the platform sends it again |
//! | gate | too slow, too large, framing with two readings | 408, 413, 400 …; nothing of it goes further |
//! | gate | a handshake that fails, plain HTTP where TLS is spoken | closed; 400 |
//! | gate | the certificate ends, or its renewal does not fit | told by `status`, metrics and alerts; the one before goes on |
//! | gate → tiny_http | no answer in time, broken off | 503. It may be stored: what the platform sends again is recognised as a duplicate. When tiny_http accepts no more, the process ends and is started again |
//! | verify | wrong or no secret, an old signature | 401, counted, nothing kept; 403 for an address that is not listed |
//! | decode | neither JSON nor a form | 200 and a dead letter: sending it again would not mend it, an admin may |
//! | decode | a broken compressed stream, or one of a kind we do not read | 400 or 415, and a dead letter all the same |
//! | decode | inflates beyond `server.body_max` | 413, counted, nothing kept |
//! | filter | not wanted | 200, counted, not stored |
//! | put | spool full, disk low, queue away, stopping | 503 with `Retry-After`, before anything breaks |
//! | put | write or sync fails | 503 for the whole group. The segment is abandoned and never synced again; its puts are voided in the next one |
//! | put | crash before the sync | no 200 was sent: the platform sends it again |
//! | put | crash between sync and 200 | is in the spool; the platform's second one is a duplicate |
//! | queue | write fails after the sync | is in the journal and in memory. sled refuses everything now: it is opened again, every second until that works, and told what it missed; meanwhile new events get 503 |
//! | queue | mostly garbage | copied into a fresh generation while everything goes on; a crash in between leaves one of the two, whole |
//! | open | the last stop was clean | the queue is believed if every byte of it and every segment is as it was left |
//! | open | the queue is missing, corrupt, behind; makes its opener panic or hang | tried in a process of its own first; rebuilt or mended from the journal; a corrupt one is kept as `queue.damaged.N` |
//! | open | the journal is damaged | the damaged bytes are told by segment and position; an envelope whose text was in them becomes a dead letter without text |
//! | plan | template fails or renders nothing, no requester | dead with the reason; `retry` after the template was mended |
//! | plan, reload | the source is not configured any more | held; goes on when it is back |
//! | plan, send | panic | deferred; dead at the third |
//! | begin | the attempt cannot be made durable | deferred, nothing was sent |
//! | send | refused, no route, no TLS: nothing left | deferred; one probe waits for all, with growing gaps |
//! | send | 429 | deferred, not an attempt; the whole account waits as told |
//! | send | 401, 403 | deferred, not an attempt; delivery waits for a probe, intake goes on |
//! | send | 400, 404, 405 … | dead with Freshdesk's field and code |
//! | send | files too large for the ticket | goes without them, and says so |
//! | send | several notes in one are refused | each goes alone, and only the one at fault is dead |
//! | send | 5xx, cut off, silence, after bytes left | *unknown*: looked for in Freshdesk, twice, before it is sent again; what cannot be decided is dead |
//! | send | crash | *unknown*, as its beginning is in the journal |
//! | settle | the journal cannot be written | tried again with the next segment; a crash until then makes it *unknown* |
//! | always | older than `give_up_after`, five attempts at least, and Freshdesk can be reached | dead |
//! | always | dead for `spool.keep_dead`, all the time together that a daemon ran | leaves as if an admin had dropped it: history knows it, the log says so |
//! | always | the wall clock is set | the log says so; due times, windows, ages and history go by what has really passed while the process runs |
//!
//! # Threads
//!
//! Few, named, none sleeps: each waits on a socket, a condition or a channel, with a deadline.
//!
//! | name | how many | started in | does | waits for |
//! |---|---|---|---|---|
//! | main | 1 | `cli/serve.rs` | starts and stops the rooms, SIGHUP | signals |
//! | `gate-accept` | 1, another for the status page | `gate/mod.rs` | accepts on all its listeners | `poll` |
//! | `gate-conn` | one per client, `server.connections_max` | `gate/accept.rs` | reads a request, relays it, copies the answer | its two sockets |
//! | tiny_http's, unnamed | an acceptor and four or more readers for each of its three sockets | `intake.rs`, `control.rs`, `status/listener.rs` | parse what the gates and the verbs send | sockets |
//! | `intake-N` | 4 | `intake.rs` | verify, decode, append; never the sync | tiny_http's queue |
//! | `spool-commit` | 1 | `spool/mod.rs` | writes and syncs groups | an appended record |
//! | `spool-answer` | 1 | `spool/mod.rs` | answers those whose group is synced, then brings their puts into the queue | a synced group |
//! | `spool-upkeep` | 1 | `spool/mod.rs` | brings the queue to disk and renews it, removes settled segments, copies stragglers, trims history | a change; a second when the disk failed |
//! | `sled-io-N` | sled's own | | idle: the queue is written in large steps, and synced when a segment goes | work; a minute |
//! | `dispatch-N` | `delivery.workers`, 4 | `dispatch/mod.rs` | one attempt at a time, or the probe | work, or the moment something is due |
//! | `control` | 1 | `control.rs` | carries out the admin's verbs | tiny_http's queue |
//! | `status-page` | 1 | `status/listener.rs` | answers the status page's requests | tiny_http's queue |
//! | `watch` | 1 | `daemon/watch.rs` | looks how things stand, keeps the history | 10 s |
//! | `alert` | 1 | `daemon/alarm.rs` | tells what needs a person, when `[alert]` says whom, and makes its tickets | 30 s; a second when a ticket waits for its turn |
//! | `alert-command` | one while a command runs | `alert/send.rs` | waits for it | the command's end |
//! | `systemd` | 1, under systemd | `cli/serve.rs` | watchdog and status line, while a request would be answered | 5 s |
//!
//! # Where this is tested
//!
//! | what | where |
//! |---|---|
//! | rooms, crates, time, threads, sizes | `tests/architecture.rs` |
//! | framing, deadlines, shares, eviction, a stop in the middle | `src/gate/tests/` |
//! | bodies and secrets as platforms send them | `src/decode/tests.rs`, `src/verify/tests.rs` |
//! | bodies, proofs and heads as nobody should send them: no panic, no quadratic work, bounded memory | `tests/untrusted.rs` |
//! | presets: a request in, Freshdesk's writes out | `tests/presets/<platform>/<case>/` |
//! | a broken configuration and the exact words it gets | `tests/bad-config/<case>/` |
//! | each message that admins were promised, in the golden that says it | `tests/messages.txt`, by `tests/it/messages.rs` |
//! | all 200 requests of the corpus through the real binary | `tests/corpus.rs`, `tests/corpus/` |
//! | spool: reopened, torn, damaged, full; order and heads | `src/spool/tests.rs` |
//! | spool: power cuts, kills, damage, the format of earlier versions | `src/spool/tests/{cuts,kills,damage,format}.rs` |
//! | order, pace, doubt and give-up with a manual clock | `src/dispatch/tests.rs` |
//! | the clock is set: 1970 to today, back by a year, on by a week | `tests/system/clock.sh`, `src/dispatch/tests.rs`, `src/spool/tests.rs` |
//! | months with outages, faults, kills and clock jumps, from seeds: loss, doubles, order, pace | `src/dispatch/simulation/` |
//! | what left the house; what answers mean; looking | `src/freshdesk/*_tests.rs` |
//! | the stand-in is as strict as the documentation | `src/sandbox/tests/` |
//! | the real binary over real HTTP: kills, outages, resets after the commit, rude clients | `tests/it/` |
//! | the status page: what it shows to whom, and in a browser | `tests/it/page.rs`, `tests/system/page.sh` |
//! | alerts across restarts, by command, by URL and as tickets | `tests/it/alert.rs` |
//! | metrics and alerting rules, by promtool | `tests/system/metrics.sh` |
//! | with the daemon down; exported, imported, drained, in doubt and interrupted; the log | `tests/it/{offline,moved}.rs`, `src/spool/tests/moved.rs` |
//! | a configuration is applied whole or not at all | `tests/it/reload.rs` |
//! | what admins type | `tests/by_hand.rs`, `tests/it/` |
//! | every verb word for word, text and JSON, with a clock that stands | `tests/cli/`, by `tests/it/{transcripts,foreground}.rs` |
//! | what is drawn on a terminal: the watched status, bars | `tests/it/terminal.rs` |
//! | somebody is forgotten: nothing of theirs is left in any file, all others arrive; fields that are not shown | `tests/it/forget.rs` |
//! | power cuts of the real binary on a logged block device; disks that fail or become read-only | `tests/system/power_cut.sh`, `tests/system/failing_disk.sh` |
//! | queues that hang or kill their opener, and damage as it is told, with the real binary | `tests/it/damaged_queue.rs`, `tests/it/salvage.rs` |
//! | full disks, generations of the queue, clean stops, queues that are tried first | `src/spool/tests/space.rs`, `tests/system/full_disk.sh` |
//! | what a long backlog costs: disk, memory, opening | `benches/backlog/` |
//! | TLS with curl, renewals good and bad | `tests/system/tls.sh` |
//! | how little it takes when idle: memory, wake-ups, writes | `tests/system/small.sh` |
//! | restarts under load, the socket passed as systemd passes it: nobody is refused | `tests/system/restarts.sh` |
//! | `init`, typed on a terminal and in a script | `tests/system/init.sh`, `tests/it/init.rs` |
//! | README's table of troubles, typed as it stands | `tests/system/trouble.sh` |
//! | completions in their shells, manual pages | `tests/system/shells.sh`, `src/cli/man.rs` |
//! | what is in the packages; their life in a real systemd | `tests/system/packages.sh`, `tests/system/systemd.sh` |
//! | the unit, the sync before the answer | `tests/run`, `tests/system/` |

pub mod alert;
pub mod backoff;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod decode;
pub mod dispatch;
pub mod freshdesk;
pub mod gate;
pub mod html;
pub mod intake;
pub mod page;
pub mod pauses;
pub mod sandbox;
pub mod source;
pub mod spool;
pub mod status;
pub mod systemd;
pub mod trial;
pub mod verify;
