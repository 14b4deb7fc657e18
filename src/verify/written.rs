//! How signatures and keys are written.

/// How a signature is written in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits of either case.
    Hex,
    /// Base64 of either alphabet, with or without padding.
    Base64,
}

impl Encoding {
    /// The bytes that are written; `None` when it is anything else.
    pub(super) fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Hex => decode_hex(text),
            Encoding::Base64 => decode_base64(text),
        }
    }

    /// Its name, for admins.
    pub(super) fn name(self) -> &'static str {
        match self {
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
        }
    }
}

pub(super) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Base64 of the standard or the URL alphabet, padded or not; `None` when it is anything else.
pub(super) fn decode_base64(text: impl AsRef<str>) -> Option<Vec<u8>> {
    let text = text.as_ref().trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut window, mut bits) = (0_u32, 0_u32);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        window = (window << 6 | u32::from(value)) & 0xfff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((window >> bits & 0xff) as u8);
        }
    }
    (bits < 6 && !bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_both_alphabets() {
        let check =
            |text: &str, expect: Option<&[u8]>| assert_eq!(decode_base64(text).as_deref(), expect, "{text}");
        check("aGk=", Some(b"hi"));
        check("aGk", Some(b"hi"));
        check("+/8=", Some(&[0xfb, 0xff]));
        check("-_8", Some(&[0xfb, 0xff]));
        check("a", None);
        check("", None);
        check("a b=", None);
    }

    #[test]
    fn hex_of_either_case() {
        let check =
            |text: &str, expect: Option<&[u8]>| assert_eq!(decode_hex(text).as_deref(), expect, "{text}");
        check("00fF", Some(&[0, 255]));
        check("00f", None);
        check("", None);
        check("0g", None);
        check("٣٣", None);
    }
}
