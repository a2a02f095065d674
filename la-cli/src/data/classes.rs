//! The classes of a column of labels, words or numbers, as the rows of all splits tell them.

use parquet::record::Field;
use std::collections::BTreeSet;

/// Classes in their order, and how a label finds its own.
pub(super) struct Classes {
    /// The name of each class.
    pub names: Vec<String>,
    by: By,
}

enum By {
    /// A label is one of the names, which are sorted.
    Word,
    /// A label is the place of its name, as the file's own list has it.
    Place,
    /// A label is one of these numbers, which are sorted.
    Number(Vec<u64>),
}

impl Classes {
    /// Of all labels together, so that a class has one index in every split; `named` is the list that the files hold, if any.
    pub fn of<'a>(labels: impl Iterator<Item = &'a Field> + Clone, named: Option<Vec<String>>) -> Self {
        let words: BTreeSet<&String> = labels.clone().filter_map(word).collect();
        if !words.is_empty() {
            return Self { names: words.into_iter().cloned().collect(), by: By::Word };
        }
        let numbers: BTreeSet<u64> = labels.filter_map(number).collect();
        let max = numbers.last().copied();
        match named.filter(|names| max.is_none_or(|max| max < names.len() as u64)) {
            Some(names) => Self { names, by: By::Place },
            None => Self { names: numbers.iter().map(u64::to_string).collect(), by: By::Number(numbers.into_iter().collect()) },
        }
    }

    /// The class of a label, where it has one.
    pub fn index(&self, label: &Field) -> Option<u32> {
        match &self.by {
            By::Word => self.names.binary_search(word(label)?).ok().map(|place| place as u32),
            By::Place => number(label)?.try_into().ok(),
            By::Number(numbers) => numbers.binary_search(&number(label)?).ok().map(|place| place as u32),
        }
    }
}

fn word(field: &Field) -> Option<&String> {
    match field {
        Field::Str(text) => Some(text),
        _ => None,
    }
}

/// A class number; datasets write -1 where there is none.
fn number(field: &Field) -> Option<u64> {
    match *field {
        Field::Byte(x) => u64::try_from(x).ok(),
        Field::Short(x) => u64::try_from(x).ok(),
        Field::Int(x) => u64::try_from(x).ok(),
        Field::Long(x) => u64::try_from(x).ok(),
        Field::UByte(x) => Some(u64::from(x)),
        Field::UShort(x) => Some(u64::from(x)),
        Field::UInt(x) => Some(u64::from(x)),
        Field::ULong(x) => Some(x),
        Field::Bool(x) => Some(u64::from(x)),
        Field::Float(x) => whole(f64::from(x)),
        Field::Double(x) => whole(x),
        _ => None,
    }
}

/// pandas writes whole numbers as fractions where one is missing.
fn whole(x: f64) -> Option<u64> {
    (x >= 0.0 && x.fract() == 0.0 && x < (1u64 << 53) as f64).then_some(x as u64)
}
