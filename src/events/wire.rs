//! Protocol buffers' wire format, as far as events need it
//! (<https://protobuf.dev/programming-guides/encoding/>).

/// A message being written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn key(&mut self, number: u32, kind: u64) {
        self.raw_varint(u64::from(number) << 3 | kind);
    }

    /// A field of an integer type or an enum.
    pub(super) fn varint(mut self, number: u32, value: u64) -> Self {
        self.key(number, 0);
        self.raw_varint(value);
        self
    }

    /// A field of type `double`.
    pub(super) fn double(mut self, number: u32, value: f64) -> Self {
        self.key(number, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A field of type `float`.
    pub(super) fn float(mut self, number: u32, value: f32) -> Self {
        self.key(number, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A field of type `string` or `bytes`.
    pub(super) fn bytes(mut self, number: u32, value: &[u8]) -> Self {
        self.key(number, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A field that is a message.
    pub(super) fn message(self, number: u32, value: &Self) -> Self {
        self.bytes(number, &value.0)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A field's value as it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// Integers, enums.
    Varint(u64),
    /// `double`.
    Fixed64([u8; 8]),
    /// Text, bytes, messages, packed numbers.
    Bytes(&'a [u8]),
    /// `float`.
    Fixed32([u8; 4]),
}

/// Not the wire format.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

/// The fields of a message, in order.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for place in 0..10 {
            let byte = *self.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            value |= bits.checked_shl(7 * place)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.take(8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok().filter(|number| *number > 0)?, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_come_back() {
        let inner = Message::default().bytes(1, b"tag").float(2, -0.5);
        let bytes = Message::default()
            .double(1, 1e9)
            .varint(2, 300)
            .varint(15, u64::MAX)
            .message(16, &inner)
            .finish();
        assert_eq!(bytes[9..12], [0x10, 0xac, 0x02]); // 300, from the documentation
        let fields: Vec<_> = Fields(&bytes).map(Result::unwrap).collect();
        assert_eq!(fields[0], (1, Value::Fixed64(1e9f64.to_le_bytes())));
        assert_eq!(fields[1..3], [(2, Value::Varint(300)), (15, Value::Varint(u64::MAX))]);
        let (16, Value::Bytes(inner)) = fields[3] else { panic!("{fields:?}") };
        let inner: Vec<_> = Fields(inner).map(Result::unwrap).collect();
        assert_eq!(inner[1], (2, Value::Fixed32((-0.5f32).to_le_bytes())));
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        for bytes in [&[0x08][..], &[0x09, 0], &[0x0a, 5, 1], &[0x0d, 0], &[0x0b], &[0x00, 1]] {
            assert_eq!(Fields(bytes).collect::<Vec<_>>(), [Err(Malformed)], "{bytes:?}");
        }
        assert_eq!(Fields(&[0xff; 11]).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Fields(&bytes).count() <= bytes.len());
        }
    }
}
