//! The client's writes against the stand-in: contacts, updates, follow-ups of closed tickets, files.

use deskspool::clock::Timestamp;
use deskspool::freshdesk::outcome::{Looked, Outcome};
use deskspool::freshdesk::write::{
    Attachment, ContactFields, NoteFields, Requester, TicketFields, UpdateFields, WhenClosed,
};
use deskspool::freshdesk::{ApiKey, Client, ClientConfig, Desk};
use deskspool::sandbox::{ContactView, Effect, Fault, FaultBody, Knobs, Options, Sandbox};
use std::time::Duration;

fn start(knobs: Knobs) -> (Sandbox, Client) {
    let desk = Sandbox::start(Options { knobs, ..Options::default() }).expect("loopback has a free port");
    let config = ClientConfig {
        url: desk.url(),
        api_key: ApiKey::from("sandbox-key".to_owned()),
        timeout: Duration::from_secs(20),
        marker_field: None,
        ca_file: None,
        proxy: Some(String::new()),
    };
    let client = Client::new(config).expect("the sandbox's address is one");
    (desk, client)
}

fn who(name: &str, email: &str, phone: &str, external_id: &str) -> Requester {
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Requester { name: set(name), email: set(email), phone: set(phone), external_id: set(external_id) }
}

fn contact(requester: Requester) -> ContactFields {
    ContactFields { requester, ..ContactFields::default() }
}

fn ticket(email: &str) -> TicketFields {
    TicketFields {
        requester: who("Ana", email, "", ""),
        subject: "Hi".to_owned(),
        description: "<p>x</p>".to_owned(),
        ..TicketFields::default()
    }
}

fn note(when_closed: WhenClosed) -> NoteFields {
    NoteFields { body: "<p>more</p>".to_owned(), private: true, when_closed, ..NoteFields::default() }
}

fn one(desk: &Sandbox) -> ContactView {
    let contacts = desk.contacts();
    assert_eq!(contacts.len(), 1, "{contacts:?}");
    contacts[0].clone()
}

fn status(status: u64) -> UpdateFields {
    UpdateFields { status: Some(status), ..UpdateFields::default() }
}

#[test]
fn a_contact_is_made_once_filled_later_and_never_overwritten() {
    let (desk, client) = start(Knobs::default());
    let put = |requester: Requester| assert_eq!(client.put_contact(&contact(requester)), Ok(()));
    put(who("", "", "+573001112233", ""));
    assert_eq!(one(&desk).name.as_deref(), Some("+573001112233"));
    put(who("Ana Ruiz", "", "+573001112233", "shop:7"));
    put(who("Anita", "ana@acme.example", "", "shop:7"));
    put(who("Anita", "ana@acme.example", "+34911222333", "shop:7"));
    let ana = one(&desk);
    let has = [ana.name, ana.email, ana.phone, ana.unique_external_id];
    let expect = ["Ana Ruiz", "ana@acme.example", "+573001112233", "shop:7"];
    assert_eq!(has.each_ref().map(Option::as_deref), expect.map(Some));
    let over = ContactFields { overwrite: true, ..contact(who("Anita", "", "+34911222333", "shop:7")) };
    assert_eq!(client.put_contact(&over), Ok(()));
    assert_eq!(
        (one(&desk).name.as_deref(), one(&desk).phone.as_deref()),
        (Some("Anita"), Some("+34911222333"))
    );
}

#[test]
fn people_who_share_a_phone_stay_apart() {
    let (desk, client) = start(Knobs::default());
    let put = |requester: Requester| assert_eq!(client.put_contact(&contact(requester)), Ok(()));
    put(who("Ana", "ana@acme.example", "+341", ""));
    put(who("Eva", "eva@acme.example", "+341", "shop:8"));
    assert_eq!(desk.contacts().len(), 2);
    put(who("Gil", "", "+341", "shop:9"));
    assert_eq!(desk.contacts().len(), 2, "Ana has no external id, so it may be hers");
    put(who("Luz", "", "+341", "shop:10"));
    assert_eq!(desk.contacts().len(), 3);
}

#[test]
fn agents_and_deleted_contacts_are_left_as_they_are() {
    let (desk, client) = start(Knobs::default());
    // The sandbox's second agent.
    assert_eq!(client.put_contact(&contact(who("M", "marta@acme.example", "+341", ""))), Ok(()));
    assert_eq!(desk.contacts().len(), 0);
    assert_eq!(client.put_contact(&contact(who("Ana", "ana@acme.example", "", ""))), Ok(()));
    let id = one(&desk).id;
    desk.mark_contact(id, false, true);
    assert_eq!(client.put_contact(&contact(who("Ana", "ana@acme.example", "+341", ""))), Ok(()));
    assert_eq!((one(&desk).phone, one(&desk).deleted), (None, true));
    desk.mark_contact(id, true, false);
    assert_eq!(client.put_contact(&contact(who("Ana", "ana@acme.example", "+341", ""))), Ok(()));
    assert_eq!(one(&desk).phone, None);
}

#[test]
fn an_identifier_that_somebody_else_has_is_left_to_him() {
    let (desk, client) = start(Knobs::default());
    let put = |requester: Requester| assert_eq!(client.put_contact(&contact(requester)), Ok(()));
    put(who("Eva", "eva@acme.example", "", ""));
    put(who("Ana", "", "", "shop:7"));
    put(who("Ana", "eva@acme.example", "+341", "shop:7"));
    let contacts = desk.contacts();
    let ana = contacts.iter().find(|contact| contact.name.as_deref() == Some("Ana")).expect("she is there");
    assert_eq!((ana.email.as_deref(), ana.phone.as_deref(), contacts.len()), (None, Some("+341"), 2));
}

#[test]
fn an_account_without_the_undocumented_filter_makes_no_second_contact() {
    let (desk, client) = start(Knobs { contacts_filter_unique_external_id: false, ..Knobs::default() });
    for phone in ["", "+341"] {
        assert_eq!(client.put_contact(&contact(who("Ana", "", phone, "shop:7"))), Ok(()));
    }
    assert_eq!(one(&desk).phone.as_deref(), Some("+341"));
}

#[test]
fn a_contact_whose_answer_was_lost_is_not_made_twice() {
    let (desk, client) = start(Knobs::default());
    desk.add_fault(Fault::new(Effect::CommitThenReset).on("POST", "/api/v2/contacts").first(1));
    let ana = contact(who("Ana", "", "+341", ""));
    assert!(matches!(client.put_contact(&ana), Err(Outcome::Unknown { .. })));
    assert_eq!(client.put_contact(&ana), Ok(()));
    one(&desk);
}

#[test]
fn an_update_changes_what_it_names_and_keeps_other_tags() {
    let (desk, client) = start(Knobs::default());
    let tags = ["a", "old"].map(str::to_owned).to_vec();
    let created = client.create_ticket(&TicketFields { tags, ..ticket("ana@acme.example") }, "ds-1");
    assert_eq!(created, Outcome::Delivered { ticket: 1 });
    let update = UpdateFields {
        priority: Some(4),
        tags_add: vec!["vip".to_owned(), "A".to_owned()],
        tags_remove: vec!["OLD".to_owned(), "none".to_owned()],
        ..UpdateFields::default()
    };
    for _ in 0..2 {
        assert_eq!(client.update_ticket(1, &update), Outcome::Delivered { ticket: 1 });
    }
    let changed = &desk.tickets()[0];
    assert_eq!((changed.priority, changed.tags.join(" ").as_str()), (4, "a ds-1 vip"));
    let gone = client.update_ticket(9, &update);
    assert!(
        matches!(&gone, Outcome::Rejected { reason } if reason.contains("ticket 9 was deleted")),
        "{gone:?}"
    );
}

#[test]
fn a_closed_ticket_is_opened_again_or_followed_by_a_new_one() {
    let (desk, client) = start(Knobs::default());
    client.create_ticket(&ticket("ana@acme.example"), "ds-1");
    client.update_ticket(1, &status(4));
    assert_eq!(client.add_note(1, &note(WhenClosed::Leave), "ds-2"), Outcome::Delivered { ticket: 1 });
    assert_eq!(desk.tickets()[0].status, 4);
    assert_eq!(client.add_note(1, &note(WhenClosed::Reopen), "ds-3"), Outcome::Delivered { ticket: 1 });
    assert_eq!((desk.tickets()[0].status, desk.tickets()[0].notes.len()), (2, 2));
    client.update_ticket(1, &status(3));
    client.add_note(1, &note(WhenClosed::Reopen), "ds-4");
    assert_eq!(desk.tickets()[0].status, 3, "pending is not closed");
    let new = note(WhenClosed::NewTicket(Box::new(ticket("ana@acme.example"))));
    assert_eq!(client.add_note(1, &new, "ds-5"), Outcome::Delivered { ticket: 1 });
    client.update_ticket(1, &status(5));
    assert_eq!(client.add_note(1, &new, "ds-6"), Outcome::Delivered { ticket: 2 });
    let look = |marker: &str| client.find_follow_up(1, &new, marker, Timestamp(0));
    assert_eq!(look("ds-5"), Looked::Found { ticket: 1 });
    assert_eq!(look("ds-6"), Looked::Found { ticket: 2 });
    assert_eq!(look("ds-7"), Looked::Absent);
}

#[test]
fn a_deleted_ticket_is_followed_by_a_new_one_only_if_the_admin_says_so() {
    let (desk, client) = start(Knobs::default());
    client.create_ticket(&ticket("ana@acme.example"), "ds-1");
    desk.mark_ticket(1, false, true);
    let refused = client.add_note(1, &note(WhenClosed::Reopen), "ds-2");
    assert!(matches!(&refused, Outcome::Rejected { reason } if reason.contains("new-ticket")), "{refused:?}");
    let new = note(WhenClosed::NewTicket(Box::new(ticket("ana@acme.example"))));
    assert_eq!(client.add_note(1, &new, "ds-2"), Outcome::Delivered { ticket: 2 });
}

#[test]
fn a_ticket_that_cannot_be_opened_again_gets_the_note_and_says_so() {
    let (desk, client) = start(Knobs::default());
    client.create_ticket(&ticket("ana@acme.example"), "ds-1");
    client.update_ticket(1, &status(5));
    let fault =
        Fault::new(Effect::Status { status: 400, body: FaultBody::Json, retry_after: None, commit: false });
    desk.add_fault(fault.on("PUT", "/api/v2/tickets/1").first(1));
    assert_eq!(client.add_note(1, &note(WhenClosed::Reopen), "ds-2"), Outcome::Delivered { ticket: 1 });
    let body = &desk.tickets()[0].notes[0].body;
    assert!(body.contains("could not be opened again") && body.contains("more"), "{body}");
}

#[test]
fn a_reply_goes_to_the_customer_and_is_found_again() {
    let (desk, client) = start(Knobs::default());
    client.create_ticket(&ticket("ana@acme.example"), "ds-1");
    let reply = NoteFields { reply: true, private: false, ..note(WhenClosed::Leave) };
    assert_eq!(client.add_note(1, &reply, "ds-2"), Outcome::Delivered { ticket: 1 });
    assert!(desk.tickets()[0].notes[0].reply);
    assert_eq!(client.find_note(1, "ds-2"), Looked::Found { ticket: 1 });
}

fn with_file(bytes: usize) -> TicketFields {
    let file = Attachment {
        name: "../event \"1\".json".to_owned(),
        content_type: "application/json",
        bytes: vec![b'x'; bytes],
    };
    let mut ticket = ticket("ana@acme.example");
    ticket.tags = vec!["bot".to_owned()];
    ticket.status = Some(3);
    ticket.description = "<p>ñ &lt;b&gt;</p>".to_owned();
    ticket.attachments = vec![file];
    ticket
}

#[test]
fn files_come_in_the_same_write_with_everything_else() {
    let (desk, client) = start(Knobs::default());
    assert_eq!(client.create_ticket(&with_file(100), "ds-1"), Outcome::Delivered { ticket: 1 });
    let made = &desk.tickets()[0];
    let file = &made.attachments[0];
    assert_eq!(
        (file.name.as_str(), file.content_type.as_str(), file.size_bytes),
        ("_event__1_.json", "application/json", 100)
    );
    assert_eq!((made.status, made.tags.join(" ").as_str()), (3, "bot ds-1"));
    assert!(made.description.contains("ñ &lt;b&gt;"), "{}", made.description);
    assert_eq!(desk.requests().iter().filter(|request| request.method == "POST").count(), 1);
    let note = NoteFields { attachments: with_file(7).attachments, ..note(WhenClosed::Leave) };
    assert_eq!(client.add_note(1, &note, "ds-2"), Outcome::Delivered { ticket: 1 });
    assert_eq!(desk.tickets()[0].notes[0].attachments[0].size_bytes, 7);
}

#[test]
fn files_that_do_not_fit_are_left_out_visibly() {
    let (desk, client) = start(Knobs { attachment_limit_bytes: 1000, ..Knobs::default() });
    assert_eq!(client.create_ticket(&with_file(1001), "ds-1"), Outcome::Delivered { ticket: 1 });
    let made = desk.tickets();
    assert_eq!((made.len(), made[0].attachments.len()), (1, 0));
    assert!(made[0].description.contains("left out, too large"), "{}", made[0].description);
    assert_eq!(client.create_ticket(&with_file(16 << 20), "ds-2"), Outcome::Delivered { ticket: 2 });
    assert!(desk.tickets()[1].description.contains("left out, too large"));
}
