//! Metadata values, as the file types them.

/// What a metadata key holds.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's own types")]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(GgufArray),
}

/// An array of metadata; all elements have one type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's own types")]
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Self>),
}

impl GgufValue {
    pub(super) fn to_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::U32(x) => Some(x.into()),
            Self::U64(x) => Some(x),
            Self::I8(x) => x.try_into().ok(),
            Self::I16(x) => x.try_into().ok(),
            Self::I32(x) => x.try_into().ok(),
            Self::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// The type in words, for an error; a number with its value.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::U8(x) => format!("the u8 {x}"),
            Self::I8(x) => format!("the i8 {x}"),
            Self::U16(x) => format!("the u16 {x}"),
            Self::I16(x) => format!("the i16 {x}"),
            Self::U32(x) => format!("the u32 {x}"),
            Self::I32(x) => format!("the i32 {x}"),
            Self::U64(x) => format!("the u64 {x}"),
            Self::I64(x) => format!("the i64 {x}"),
            Self::F32(x) => format!("the f32 {x}"),
            Self::F64(x) => format!("the f64 {x}"),
            Self::Bool(x) => format!("the bool {x}"),
            Self::String(_) => "a string".to_owned(),
            Self::Array(array) => format!("an array of {} {}", array.len(), array.element()),
        }
    }
}

/// The same expression for the vector of every variant.
macro_rules! each {
    ($array:expr, $vector:ident => $result:expr) => {
        match $array {
            GgufArray::U8($vector) => $result,
            GgufArray::I8($vector) => $result,
            GgufArray::U16($vector) => $result,
            GgufArray::I16($vector) => $result,
            GgufArray::U32($vector) => $result,
            GgufArray::I32($vector) => $result,
            GgufArray::U64($vector) => $result,
            GgufArray::I64($vector) => $result,
            GgufArray::F32($vector) => $result,
            GgufArray::F64($vector) => $result,
            GgufArray::Bool($vector) => $result,
            GgufArray::String($vector) => $result,
            GgufArray::Array($vector) => $result,
        }
    };
}

fn fitting<S: Copy, T: TryFrom<S>>(numbers: &[S]) -> Option<Vec<T>> {
    numbers.iter().map(|x| T::try_from(*x).ok()).collect()
}

impl GgufArray {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        each!(self, vector => vector.len())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn element(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bools",
            Self::String(_) => "strings",
            Self::Array(_) => "arrays",
        }
    }

    /// The elements as `T`, if they are integers and all fit.
    pub(super) fn integers<T>(&self) -> Option<Vec<T>>
    where
        T: TryFrom<u8> + TryFrom<i8> + TryFrom<u16> + TryFrom<i16>,
        T: TryFrom<u32> + TryFrom<i32> + TryFrom<u64> + TryFrom<i64>,
    {
        match self {
            Self::U8(numbers) => fitting(numbers),
            Self::I8(numbers) => fitting(numbers),
            Self::U16(numbers) => fitting(numbers),
            Self::I16(numbers) => fitting(numbers),
            Self::U32(numbers) => fitting(numbers),
            Self::I32(numbers) => fitting(numbers),
            Self::U64(numbers) => fitting(numbers),
            Self::I64(numbers) => fitting(numbers),
            _ => None,
        }
    }
}
