//! Servers without a session in the end: what the user reads, and whether it is tried again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rekiln::ssh::{Address, Keys, Refusal, Session};

use super::server::{Server, fingerprint};

/// So long a server may be silent here. Longer than a busy computer takes to start its answer.
const PATIENCE: Duration = Duration::from_secs(3);

fn refusal(address: &Address) -> Refusal {
    match Session::connect(address) {
        Ok(_) => panic!("a session on {}", address.socket),
        Err(refusal) => refusal,
    }
}

/// What is seen, where trying again makes sense.
fn not_yet(address: &Address) -> String {
    match refusal(address) {
        Refusal::NotYet(why) => why,
        Refusal::Never(error) => panic!("never: {error:?}"),
    }
}

/// The error and its hints, where it does not.
fn never(address: &Address) -> (String, String) {
    match refusal(address) {
        Refusal::NotYet(why) => panic!("not yet: {why}"),
        Refusal::Never(error) => (error.chain(), error.hints().join("\n")),
    }
}

/// A server that speaks no SSH to its end, and where it is.
fn without_ssh(mode: &str) -> (Server, Address) {
    let keys = Keys::new().expect("keys");
    let server = Server::start(mode, &keys);
    let address = Address { patience: PATIENCE, ..server.address(&keys) };
    (server, address)
}

/// OpenSSH's sshd, which lets in nobody that comes here.
fn sshd(mode: &str) -> (Server, Address) {
    let keys = Keys::new().expect("keys");
    let server = Server::start(mode, &keys);
    let address = server.address(&keys);
    (server, address)
}

#[test]
fn nobody_listens() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let socket: SocketAddr = free.expect("a free port");
    let keys = Keys::new().expect("keys").into();
    let address = Address { socket, user: "root".to_owned(), keys, patience: PATIENCE };
    assert_eq!(not_yet(&address), format!("connecting to {socket}: Connection refused (os error 111)"));
}

#[test]
fn a_server_may_say_nothing_or_only_its_version() {
    let silent = || {
        let (_server, address) = without_ssh("stall");
        let said = format!("{} accepts the connection and says nothing for 3 s", address.socket);
        assert_eq!(not_yet(&address), said);
    };
    let brief = || {
        let (_server, address) = without_ssh("stall-after-version");
        let said = format!("{} says `SSH-2.0-hostile` and does not exchange keys within 3 s", address.socket);
        assert_eq!(not_yet(&address), said);
    };
    std::thread::scope(|scope| {
        scope.spawn(silent);
        scope.spawn(brief);
    });
}

#[test]
fn a_server_may_hang_up() {
    let (_server, address) = without_ssh("close");
    assert_eq!(not_yet(&address), format!("{} accepts the connection and hangs up", address.socket));
}

#[test]
fn what_is_no_ssh_stays_none() {
    let hint = "another program may have taken the port; it is tried with a new port the next time";
    let (_server, address) = without_ssh("version1");
    let no_ssh =
        |address: &Address| format!("what listens on {} does not speak SSH 2: it says ", address.socket);
    assert_eq!(never(&address), (format!("{}`SSH-1.5-hostile`", no_ssh(&address)), hint.to_owned()));

    let (_server, address) = without_ssh("banner");
    let line = "The quick brown fox has something to say before it says who it is.";
    assert_eq!(never(&address), (format!("{}`{line}`", no_ssh(&address)), hint.to_owned()));

    let (_server, address) = without_ssh("banner-endless-line");
    assert_eq!(never(&address), (format!("{}`{}…`", no_ssh(&address), "x".repeat(100)), hint.to_owned()));

    let (_server, address) = without_ssh("garbage");
    let (text, hint) = never(&address);
    // The first four bytes of its garbage.
    let size = "Bad packet size: 4266989771";
    assert_eq!(text, format!("{} says `SSH-2.0-hostile` and then what is no SSH: {size}", address.socket));
    assert_eq!(hint, "another program may have taken the port, or one between changes what is sent");
}

#[test]
fn another_machine_is_told_from_ours_before_it_learns_anything() {
    let (server, address) = sshd("other-host-key");
    let (text, hint) = never(&address);
    let (ours, shown) = (fingerprint(server.fact("host_key")), fingerprint(server.fact("own_key")));
    let what = format!(
        "what answers on {} is not the machine that was started: the host key of that is {ours}",
        address.socket
    );
    assert_eq!(text, format!("{what}, and it shows {shown}"));
    let said = "nothing was sent to it. Someone may sit between, or the machine does not use that host key, as when its \
                image takes none from its seed: look at the console";
    assert_eq!(hint, said);
    // That is true: the server heard of no user. One that lets us in did; see below.
    assert_heard_of_no_user(&server);

    let (server, address) = sshd("rsa-host-key");
    let ours = fingerprint(server.fact("host_key"));
    let what = format!(
        "what answers on {} is not the machine that was started: the host key of that is {ours}",
        address.socket
    );
    assert_eq!(never(&address), (format!("{what}, and it shows one of another kind"), said.to_owned()));
    server.log_with("no matching host key type found");
}

/// What sshd says when somebody asks to be let in.
const USER: &str = "userauth-request for user root";

fn assert_heard_of_no_user(server: &Server) {
    // A connection ended, or did more, before anybody was let in; one that says nothing, as of a probe, is told otherwise.
    let log = server.log_with("[preauth]");
    assert!(log.contains("Connection closed by") && !log.contains(USER), "{log}");
}

#[test]
fn a_key_that_is_not_known_yet_may_be_later() {
    let (ours, other) = (Keys::new().expect("keys"), Keys::new().expect("keys"));
    let server = Server::start("key", &other);
    let address = server.address(&ours);
    assert_eq!(not_yet(&address), format!("{} does not let `root` in with our key", address.socket));
    server.log_with(USER);

    // Where sshd allows one try, it says so and hangs up instead of an answer.
    let server = Server::start("one-try", &other);
    let address = server.address(&ours);
    assert_eq!(
        not_yet(&address),
        format!(
            "{} does not say whether it lets `root` in: it ended the connection: Too many authentication failures",
            address.socket
        )
    );
}

#[test]
fn passwords_are_never_what_we_have() {
    let (_server, address) = sshd("password");
    let (text, hint) = never(&address);
    assert_eq!(
        text,
        format!("{} takes no keys from `root`, only: password, keyboard-interactive", address.socket)
    );
    assert_eq!(hint, "rekiln knows no passwords: let sshd accept public keys (`PubkeyAuthentication yes`)");

    let (_server, address) = sshd("key-and-password");
    let (text, hint) = never(&address);
    assert_eq!(text, format!("{} takes our key from `root` and wants more: password", address.socket));
    assert_eq!(
        hint,
        "rekiln knows no passwords: let a key be enough for sshd (`AuthenticationMethods publickey`)"
    );
}
