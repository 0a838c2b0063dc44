//! The port probe: which TCP ports of a machine answer, seen from the wire.
//!
//! It does not trust the guest's own list. Frames are made by hand and sent on a datagram socket that QEMU
//! has as a network back end beside the forwarding one, so that every port is reachable and no forward, no
//! address and no right of this host is needed.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};

use crate::error::{Doing as _, Error, Result};

/// The first address that QEMU's DHCP server gives away, and so the guest's.
const GUEST_IP: [u8; 4] = [10, 0, 2, 15];
/// Ours: in the same network, given to nobody.
const OUR_IP: [u8; 4] = [10, 0, 2, 77];
/// Ours: locally administered, unlike any that QEMU makes up.
const OUR_MAC: [u8; 6] = [0x02, 0x72, 0x65, 0x6b, 0x69, 0x6c];
/// Where our segments come from. Not a port that the guest could listen on itself.
const OUR_PORT: u16 = 61_000;
/// A SYN that is lost is sent again this often. A guest that drops instead of refusing costs all of it.
const ROUNDS: usize = 3;
/// How long after a round late answers are waited for.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the guest may take to say where it is.
const ARP: Duration = Duration::from_secs(10);
/// How many SYNs go out before the answers must catch up: below every queue's length, so that nothing is lost.
const WINDOW: usize = 128;
/// The bound of one whole probe, however slow the guest is.
const WHOLE: Duration = Duration::from_secs(90);

const UNKNOWN: u8 = 0;
const CLOSED: u8 = 1;
const OPEN: u8 = 2;

/// A wire to one machine.
pub struct Wire {
    socket: UnixDatagram,
    /// What each port said.
    answers: Vec<AtomicU8>,
    guest: Mutex<Option<[u8; 6]>>,
    done: AtomicBool,
}

impl Wire {
    /// Makes a wire. The second socket is the machine's end: QEMU's standard input.
    ///
    /// # Errors
    /// No sockets are left.
    pub fn new() -> Result<(Self, UnixDatagram)> {
        let (socket, theirs) = UnixDatagram::pair().doing(|| "making the port probe's socket")?;
        // So that the reader notices when it is over, even on a silent wire.
        socket.set_read_timeout(Some(Duration::from_millis(50))).doing(|| "preparing the port probe")?;
        socket.set_write_timeout(Some(Duration::from_secs(5))).doing(|| "preparing the port probe")?;
        let answers = (0..=u16::MAX).map(|_| AtomicU8::new(UNKNOWN)).collect();
        Ok((Self { socket, answers, guest: Mutex::new(None), done: AtomicBool::new(false) }, theirs))
    }

    /// Takes frames from the wire until [`Wire::close`]; runs in a thread of its own from the machine's start,
    /// because a socket that nobody reads would hold up QEMU's network.
    pub fn listen(&self) {
        // The largest datagram; in practice a frame is 1514 bytes.
        let mut frame = vec![0; 65_536];
        while !self.done.load(Ordering::Relaxed) {
            match self.socket.recv(&mut frame) {
                Ok(length) => self.take(&frame[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                    ) => {}
                // QEMU has ended; nothing more will come.
                Err(_) => return,
            }
        }
    }

    /// Makes [`Wire::listen`] return.
    pub fn close(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// Returns the open TCP ports: all that answer a SYN with a SYN-ACK.
    ///
    /// # Errors
    /// The guest's address does not answer, or the guest is too slow to be probed whole.
    pub fn open_ports(&self) -> Result<BTreeSet<u16>> {
        let guest = self.find_guest()?;
        let start = Instant::now();
        for _ in 0..ROUNDS {
            for port in 1..=u16::MAX {
                if self.answer(port) != UNKNOWN {
                    continue;
                }
                self.send(&syn(guest, port))?;
                self.pace(port);
                if start.elapsed() > WHOLE {
                    return Err(Error::failed(
                        "the machine answers too slowly for all its ports to be probed",
                    ));
                }
            }
            if self.all_answer_within(SETTLE) {
                break;
            }
        }
        Ok((1..=u16::MAX).filter(|port| self.answer(*port) == OPEN).collect())
    }

    fn answer(&self, port: u16) -> u8 {
        self.answers[usize::from(port)].load(Ordering::Relaxed)
    }

    /// Waits while the guest is a window behind, but not for ports that are silent for good.
    fn pace(&self, port: u16) {
        let behind = usize::from(port).saturating_sub(WINDOW);
        if behind == 0 || usize::from(port) % 32 != 0 {
            return;
        }
        let start = Instant::now();
        let waiting =
            |from: usize| (from..behind).any(|port| self.answers[port].load(Ordering::Relaxed) == UNKNOWN);
        // Twenty milliseconds: a translated guest answers a window within that, a dropping one never does.
        while waiting(behind.saturating_sub(32).max(1)) && start.elapsed() < Duration::from_millis(20) {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn all_answer_within(&self, patience: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            if (1..=u16::MAX).all(|port| self.answer(port) != UNKNOWN) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Asks who has the guest's address until someone says so.
    fn find_guest(&self) -> Result<[u8; 6]> {
        let start = Instant::now();
        while start.elapsed() < ARP {
            self.send(&arp(ArpOperation::REQUEST, [0xff; 6], [0; 6], GUEST_IP))?;
            std::thread::sleep(Duration::from_millis(50));
            if let Some(mac) = *self.guest.lock().unwrap_or_else(PoisonError::into_inner) {
                return Ok(mac);
            }
        }
        Err(Error::failed("the machine's network card does not answer at 10.0.2.15"))
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame).map(|_| ()).doing(|| "sending a frame to the machine")
    }

    /// Takes one frame. Whatever is no answer to us (DHCP, IPv6 chatter) is passed over.
    fn take(&self, frame: &[u8]) {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return };
        match (packet.net, packet.transport) {
            (Some(NetSlice::Arp(arp)), _) => {
                let ours = arp.target_protocol_addr() == OUR_IP;
                let Ok(mac) = <[u8; 6]>::try_from(arp.sender_hw_addr()) else { return };
                if !ours || arp.sender_protocol_addr() != GUEST_IP {
                    return;
                }
                *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(mac);
                if arp.operation() == ArpOperation::REQUEST {
                    let _ = self.send(&self::arp(ArpOperation::REPLY, mac, mac, GUEST_IP));
                }
            }
            (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp)))
                if ip.header().source() == GUEST_IP && tcp.destination_port() == OUR_PORT =>
            {
                let answer = match (tcp.syn() && tcp.ack(), tcp.rst()) {
                    (true, _) => OPEN,
                    (_, true) => CLOSED,
                    _ => return,
                };
                // Once open, open: the reset that follows a half-open connection says nothing.
                self.answers[usize::from(tcp.source_port())].fetch_max(answer, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

fn arp(operation: ArpOperation, to: [u8; 6], target: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let header = Ethernet2Header { source: OUR_MAC, destination: to, ether_type: EtherType::ARP };
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: OUR_MAC,
        sender_ipv4: OUR_IP,
        target_mac: target,
        target_ipv4: ip,
    };
    [&header.to_bytes()[..], &packet.to_bytes()[..]].concat()
}

fn syn(guest: [u8; 6], port: u16) -> Vec<u8> {
    // Any sequence number will do; the smallest window promises that no data is wanted.
    let builder =
        PacketBuilder::ethernet2(OUR_MAC, guest).ipv4(OUR_IP, GUEST_IP, 64).tcp(OUR_PORT, port, 1, 1).syn();
    let mut frame = Vec::with_capacity(builder.size(0));
    // Writing to memory does not fail; an empty frame would be dropped by QEMU and be probed again.
    let _ = builder.write(&mut frame, &[]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a machine: answers ARP, refuses every port, accepts `open`, and loses every frame once.
    fn play(theirs: &UnixDatagram, open: &[u16], silent: &[u16]) {
        const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        let mut lost = BTreeSet::new();
        let mut frame = [0; 2048];
        while let Ok(length) = theirs.recv(&mut frame) {
            if length == 0 {
                return;
            }
            let packet = SlicedPacket::from_ethernet(&frame[..length]).expect("a frame");
            let mut reply = Vec::new();
            if let Some(TransportSlice::Tcp(tcp)) = &packet.transport {
                let port = tcp.destination_port();
                let first = port % 1000 == 7 && lost.insert(port);
                if first || silent.contains(&port) {
                    continue;
                }
                let back = PacketBuilder::ethernet2(MAC, OUR_MAC)
                    .ipv4(GUEST_IP, OUR_IP, 64)
                    .tcp(port, tcp.source_port(), 9, 1)
                    .ack(2);
                let back = if open.contains(&port) { back.syn() } else { back.rst() };
                back.write(&mut reply, &[]).expect("a segment");
            } else {
                let header =
                    Ethernet2Header { source: MAC, destination: OUR_MAC, ether_type: EtherType::ARP };
                let packet = ArpEthIpv4Packet {
                    operation: ArpOperation::REPLY,
                    sender_mac: MAC,
                    sender_ipv4: GUEST_IP,
                    target_mac: OUR_MAC,
                    target_ipv4: OUR_IP,
                };
                reply.extend_from_slice(&header.to_bytes());
                reply.extend_from_slice(&packet.to_bytes());
            }
            theirs.send(&reply).expect("sent");
        }
    }

    #[test]
    fn open_ports_are_found_though_frames_are_lost() {
        let (wire, theirs) = Wire::new().expect("a wire");
        std::thread::scope(|scope| {
            // Owned by its thread, so that a failed assertion ends the play too.
            scope.spawn(move || play(&theirs, &[1, 80, 31_007, 65_535], &[]));
            scope.spawn(|| wire.listen());
            let found = wire.open_ports();
            wire.close();
            wire.socket.send(&[]).expect("the play is over");
            assert_eq!(found.expect("probed"), BTreeSet::from([1, 80, 31_007, 65_535]));
        });
    }

    #[test]
    fn a_silent_port_is_not_open() {
        let (wire, theirs) = Wire::new().expect("a wire");
        std::thread::scope(|scope| {
            scope.spawn(move || play(&theirs, &[443], &[22]));
            scope.spawn(|| wire.listen());
            let found = wire.open_ports();
            wire.close();
            wire.socket.send(&[]).expect("the play is over");
            assert_eq!(found.expect("probed"), BTreeSet::from([443]));
        });
    }
}
