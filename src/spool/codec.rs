//! Bytes of the spool's own records: little-endian numbers and length-prefixed byte strings.
//!
//! Every reader is bounded by the slice it was given; what does not fit is `Malformed`, never a panic.

use std::time::Duration;
use thiserror::Error;

/// A record or a queue value that does not decode. Checksums make this rare; it is reported, not trusted.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("malformed record")]
pub struct Malformed;

/// Appends fields to a buffer.
#[derive(Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Appends to what is in `bytes`; `finish` gives them back.
    pub fn onto(bytes: Vec<u8>) -> Encoder {
        Encoder { bytes }
    }

    /// Bytes without a length.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Seven bits to a byte, the lowest first.
    pub fn varint(&mut self, value: u64) -> &mut Self {
        let mut rest = value;
        while rest >= 0x80 {
            self.bytes.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.u8(rest.to_le_bytes()[0])
    }

    /// A flag byte, then the number when there is one.
    pub fn option_u64(&mut self, value: Option<u64>) -> &mut Self {
        match value {
            Some(number) => self.u8(1).u64(number),
            None => self.u8(0),
        }
    }

    /// Whole milliseconds.
    pub fn duration(&mut self, value: Duration) -> &mut Self {
        self.u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn hash(&mut self, value: &[u8; 16]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// A `u32` length, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).expect("bodies are bounded far below 4 GiB");
        self.u32(length);
        self.bytes.extend_from_slice(value);
        self
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes fields off the front of a slice.
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Seven bits to a byte, the lowest first.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// So many bytes.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        self.take(length)
    }

    pub fn option_u64(&mut self) -> Result<Option<u64>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(self.u64()?)),
            _ => Err(Malformed),
        }
    }

    pub fn duration(&mut self) -> Result<Duration, Malformed> {
        Ok(Duration::from_millis(self.u64()?))
    }

    pub fn hash(&mut self) -> Result<[u8; 16], Malformed> {
        self.array()
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed)
    }

    /// Everything that has not been taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left over.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let mut encoder = Encoder::default();
        encoder.u8(7).u32(8).u64(9).option_u64(None).option_u64(Some(3)).hash(&[5; 16]).text("ñandú");
        let bytes = encoder.finish();
        let mut decoder = Decoder::new(&bytes);
        assert_eq!((decoder.u8(), decoder.u32(), decoder.u64()), (Ok(7), Ok(8), Ok(9)));
        assert_eq!((decoder.option_u64(), decoder.option_u64()), (Ok(None), Ok(Some(3))));
        assert_eq!((decoder.hash(), decoder.text()), (Ok([5; 16]), Ok("ñandú".to_owned())));
        assert_eq!(decoder.end(), Ok(()));
    }

    #[test]
    fn every_cut_is_malformed_and_none_panics() {
        let mut encoder = Encoder::default();
        encoder.u64(1).text("text");
        let bytes = encoder.finish();
        for length in 0..bytes.len() {
            let mut decoder = Decoder::new(&bytes[..length]);
            assert!(decoder.u64().and_then(|_| decoder.text()).is_err(), "cut at {length}");
        }
    }
}
