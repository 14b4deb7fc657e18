//! The road end to end: the real binary over real HTTP against the stand-in for Freshdesk, one behaviour per file.

mod account;
mod alert;
mod answers;
mod commit_then_reset;
mod entry;
mod freshdesk_answers;
mod harness;
mod hostile;
mod init;
mod kill;
mod life;
mod notify;
mod outage;
mod page;
mod page_seed;
mod quiet;
mod salvage;
mod samples;
mod set_aside;
mod tried;
mod turned_away;
mod verbs;
mod writes;
