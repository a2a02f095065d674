//! A bank's file that comes in portions, as from a network.

use super::{BankEntry, Precision, SearchBank};
use crate::{error::bail, Result};

/// Reads rows while the next ones still come.
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
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / row * row;
        if whole == 0 {
            return Ok(());
        }
        bank.read_rows(&self.entry, &self.rest[..whole])?;
        self.rest.drain(..whole);
        Ok(())
    }

    /// The bank, once all of the file has come.
    pub fn finish(self) -> Result<SearchBank> {
        match self.bank {
            Some(bank) if self.num_taken == self.entry.num_bytes() => Ok(bank),
            _ => self.refuse(),
        }
    }

    fn refuse<T>(&self) -> Result<T> {
        bail!("bank: {} must have {} bytes, got {}: export it again", self.entry.file.path, self.entry.num_bytes(), self.num_taken)
    }
}
