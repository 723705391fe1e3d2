//! Attempts to reach others by sockets.

use std::{
    io,
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
};

use crate::{Attempt, answer};

pub const ALL: &[Attempt] = &[
    ("connect by TCP", |facts| {
        TcpStream::connect((Ipv4Addr::LOCALHOST, facts.port)).map(drop)
    }),
    ("send by UDP", |facts| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket
            .send_to(b"x", (Ipv4Addr::LOCALHOST, facts.port))
            .map(drop)
    }),
    ("connect to an abstract socket", |facts| {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(&facts.abstract_name)?).map(drop)
    }),
    ("connect to a socket in a folder", |facts| {
        UnixStream::connect(facts.outside.join("socket")).map(drop)
    }),
    ("open a raw socket", |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    ("open a packet socket", |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
    }),
    ("open an audit socket", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)
    }),
    ("open a socket to the hypervisor", |_| {
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
    }),
    ("open a socket to the kernel's ciphers", |_| {
        socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)
    }),
    ("bring up an interface", |_| {
        // SAFETY: the call takes numbers only.
        let socket = answer(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
        // SAFETY: plain numbers and a union of such, for which zero is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        // SAFETY: the structure is the one that this ioctl reads.
        answer(unsafe { libc::ioctl(socket as i32, libc::SIOCSIFFLAGS, &raw const request) })
            .map(drop)
    }),
];

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    answer(unsafe { libc::socket(family, kind, protocol) }).map(drop)
}
