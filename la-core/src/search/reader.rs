//! A bank's file that comes in portions, as from a network.

use super::{BankEntry, Precision, SearchBank};
use crate::{error::bail, Result};

/// Reads rows while the next ones still come: those that have come can be searched.
pub struct BankReader {
    entry: BankEntry,
    bank: Option<SearchBank>,
    /// What has come of a row, or of the file where its rows cannot be told apart before its end.
    rest: Vec<u8>,
    num_taken: usize,
}

impl BankReader {
    /// Of the file that `entry` describes. Memory is taken when its first bytes come.
    pub fn new(entry: BankEntry) -> Self {
        Self { entry, bank: None, rest: Vec::new(), num_taken: 0 }
    }

    /// Reads the next bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.num_taken += bytes.len();
        if self.num_taken > self.entry.num_bytes() {
            return self.refuse();
        }
        let bank = match &mut self.bank {
            Some(bank) => bank,
            None => self.bank.insert(SearchBank::for_entry(&self.entry)?),
        };
        // An i8 file begins with the scales of all rows.
        let row = match self.entry.precision {
            Precision::I8 => self.entry.num_bytes(),
            precision => precision.bank_bytes(1, self.entry.dim),
        };
        let missing = if self.rest.is_empty() { 0 } else { (row - self.rest.len()).min(bytes.len()) };
        let (first, others) = bytes.split_at(missing);
        self.rest.extend_from_slice(first);
        if self.rest.len() == row {
            bank.read_rows(&self.entry, &self.rest)?;
            self.rest.clear();
        }
        let (whole, rest) = others.split_at(others.len() / row * row);
        if !whole.is_empty() {
            bank.read_rows(&self.entry, whole)?;
        }
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    /// The rows that have come; none before the first bytes have.
    pub fn bank(&self) -> Option<&SearchBank> {
        self.bank.as_ref()
    }

    /// The bank, once all of the file has come.
    pub fn whole(&mut self) -> Result<&mut SearchBank> {
        match &mut self.bank {
            Some(bank) if self.num_taken == self.entry.num_bytes() => Ok(bank),
            _ => refuse(&self.entry, self.num_taken),
        }
    }

    /// The same without what it was read from.
    pub fn finish(mut self) -> Result<SearchBank> {
        self.whole()?;
        self.bank.map_or_else(|| refuse(&self.entry, self.num_taken), Ok)
    }

    fn refuse<T>(&self) -> Result<T> {
        refuse(&self.entry, self.num_taken)
    }
}

fn refuse<T>(entry: &BankEntry, num_taken: usize) -> Result<T> {
    bail!("bank: {} must have {} bytes, got {num_taken}: export it again", entry.file.path, entry.num_bytes())
}
