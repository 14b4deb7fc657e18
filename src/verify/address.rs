//! Ranges of addresses, as `allow` lists them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `203.0.113.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    /// Bits that all its addresses have in common.
    bits: u32,
}

impl AddressRange {
    /// Whether the address is in it; IPv4 inside IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                same_bits(u32::from(first).into(), u32::from(address).into(), self.bits, 32)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                same_bits(first.into(), address.into(), self.bits, 128)
            }
            _ => false,
        }
    }

    /// Whether all of it is this machine itself.
    pub fn is_loopback(&self) -> bool {
        self.first.is_loopback()
    }
}

/// Whether the upper `bits` of numbers of `width` bits are equal.
fn same_bits(left: u128, right: u128, bits: u32, width: u32) -> bool {
    (left ^ right).checked_shr(width - bits).unwrap_or(0) == 0
}

impl FromStr for AddressRange {
    type Err = ();

    fn from_str(text: &str) -> Result<AddressRange, ()> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let first = address.to_canonical();
        let width = if first.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &&str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => width,
            Some(bits) => Some(bits).filter(digits).and_then(|bits| bits.parse().ok()).ok_or(())?,
        };
        // `::ffff:1.2.3.0/120` would count from another beginning.
        let is_mapped = first != address && text.contains('/');
        if bits > width || is_mapped { Err(()) } else { Ok(AddressRange { first, bits }) }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses() {
        let check = |range: &str, address: &str, expect: bool| {
            let parsed: AddressRange = range.parse().expect("a range");
            assert_eq!(parsed.contains(address.parse().expect("an address")), expect, "{range} {address}");
        };
        check("203.0.113.0/24", "203.0.113.255", true);
        check("203.0.113.0/24", "203.0.114.0", false);
        check("203.0.113.7/24", "203.0.113.1", true);
        check("203.0.113.7", "203.0.113.7", true);
        check("203.0.113.7", "203.0.113.6", false);
        check("203.0.113.0/24", "::ffff:203.0.113.9", true);
        check("0.0.0.0/0", "198.51.100.1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("149.154.160.0/20", "149.154.175.255", true);
        check("149.154.160.0/20", "149.154.176.0", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("::/0", "2001:db9::1", true);
        check("::1", "::1", true);
    }

    #[test]
    fn what_is_no_range_is_none() {
        for wrong in
            ["", "/", "203.0.113.0/33", "203.0.113/24", "::/129", "203.0.113.0/", "203.0.113.0/+8", "a"]
        {
            assert_eq!(wrong.parse::<AddressRange>(), Err(()), "{wrong}");
        }
        assert_eq!(
            "203.0.113.0/24".parse::<AddressRange>().map(|range| range.to_string()),
            Ok("203.0.113.0/24".into())
        );
    }
}
