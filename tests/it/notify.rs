//! What systemd is told (`Type=notify`), heard at a socket of our own.

use crate::harness::events::message;
use crate::harness::{PATIENCE, World, sandbox};
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;

/// Receives until a message has `text`.
fn hear(socket: &UnixDatagram, text: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{text} is not heard: {error}"));
        let heard = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if heard.contains(text) {
            return heard;
        }
    }
}

#[test]
fn systemd_hears_of_readiness_state_life_reloads_and_the_stop() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat();
    let path = world.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let path = path.display().to_string();
    let daemon = world.start_with(&[("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "2000000")], None);
    hear(&socket, "READY=1");
    hear(&socket, "WATCHDOG=1");
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    hear(&socket, "STATUS=receiving 1/h, delivering 1/h; 0 waiting, 0 dead; freshdesk ok ");
    desk.set_down(true).unwrap();
    daemon.chat(&message("luis", 0));
    let status = hear(&socket, "STATUS=Freshdesk unreachable for ");
    assert!(status.contains("; receiving normally, 1 waiting, next try in "), "{status}");
    daemon.signal(Signal::HUP);
    hear(&socket, "RELOADING=1");
    hear(&socket, "READY=1");
    daemon.signal(Signal::TERM);
    hear(&socket, "STOPPING=1");
}
