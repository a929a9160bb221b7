//! The part of an IP address that the limits count.

use std::net::{IpAddr, Ipv4Addr};

/// One address as the limits count it. An IPv6 customer has at least a /64 network, so a limit on
/// single IPv6 addresses would limit nobody. An IPv4 address counts the same in both notations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    V4(Ipv4Addr),
    /// The upper 64 bits.
    V6Network(u64),
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self::V6Network(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }
}
