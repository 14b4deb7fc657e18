//! The two facts of an X.509 certificate that nobody else tells us: when it ends, and whether it signed itself.
//!
//! Reads only as far as they are: `SEQUENCE { SEQUENCE { [0] version, INTEGER serial, SEQUENCE algorithm,
//! issuer, SEQUENCE { notBefore, notAfter }, subject …` (RFC 5280, section 4.1).

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// What is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Seconds since 1970.
    pub not_after: u64,
    /// Issuer and subject are the same.
    pub is_self_signed: bool,
}

/// The facts of a certificate; `None` when it is none.
pub(super) fn facts(certificate: &[u8]) -> Option<Facts> {
    let signed = take(certificate, SEQUENCE)?.0;
    let mut rest = take(signed, SEQUENCE)?.0;
    rest = take(rest, VERSION).map_or(rest, |(_, rest)| rest);
    rest = take(rest, INTEGER)?.1;
    rest = take(rest, SEQUENCE)?.1;
    let (issuer, rest) = take(rest, SEQUENCE)?;
    let (validity, rest) = take(rest, SEQUENCE)?;
    let (subject, _) = take(rest, SEQUENCE)?;
    let after = element(validity)?.2;
    let (tag, not_after, _) = element(after)?;
    Some(Facts { not_after: seconds(tag, not_after)?, is_self_signed: issuer == subject })
}

/// The contents of an element of this kind, and what follows it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = element(bytes)?;
    (found == tag).then_some((contents, rest))
}

/// Tag, contents, and what follows. Lengths are in the shortest form or in up to three bytes.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if !(1..=3).contains(&count) {
            return None;
        }
        let (digits, behind) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = behind;
    }
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; what ended before 1970 ended in 1970.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let (year, rest) = digits.split_at_checked(match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    })?;
    let mut year = number(year)?;
    if tag == UTC_TIME {
        year += if year < 50 { 2000 } else { 1900 };
    }
    if rest.len() != 10 {
        return None;
    }
    let part = |at: usize| number(&rest[at..at + 2]);
    let days = days_before(year, part(0)?, part(2)?)?;
    let seconds = days * 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?;
    Some(u64::try_from(seconds).unwrap_or(0))
}

fn number(digits: &[u8]) -> Option<i64> {
    let is_digits = digits.iter().all(u8::is_ascii_digit);
    is_digits.then(|| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar: years begin in March, so that leap days end them.
fn days_before(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month < 3 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn times_are_seconds_since_1970() {
        let check = |tag, text: &str, expect| assert_eq!(seconds(tag, text.as_bytes()), expect, "{text}");
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "261128201245Z", Some(1_795_896_765));
        check(UTC_TIME, "500101000000Z", Some(0));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(GENERALIZED_TIME, "20000229120000Z", Some(951_825_600));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        for wrong in
            ["", "Z", "2611282012Z", "261128201245", "26112820124xZ", "261328201245Z", "261100201245Z"]
        {
            check(UTC_TIME, wrong, None);
        }
        check(0x04, "261128201245Z", None);
    }

    #[test]
    fn what_is_no_certificate_has_no_facts() {
        let certificate = include_bytes!("../tests/tls/server.pem");
        let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
        assert!(facts(&certificate).is_some());
        for cut in 0..certificate.len() {
            assert_eq!(facts(&certificate[..cut]), None, "{cut}");
        }
        assert_eq!(facts(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(facts(b"garbage"), None);
    }
}
