//! Event files that TensorBoard reads: scalars only, written by hand because the format needs sixty lines.
//!
//! A file is a sequence of TFRecords (length, masked CRC-32C of the length, bytes, masked CRC-32C of the bytes), each an
//! `Event` message of <https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto>.

use la_core::train::EpochMetrics;

/// The record that opens every event file.
pub fn file_version(wall_time: f64) -> Vec<u8> {
    let mut event = wall_time_field(wall_time);
    bytes_field(&mut event, 3, b"brain.Event:2");
    record(&event)
}

/// The record of an epoch.
pub fn of_epoch(epoch: &EpochMetrics) -> Vec<u8> {
    let always = [("loss", epoch.loss), ("lr", epoch.lr), ("images_per_s", epoch.images_per_s), ("seconds", epoch.seconds)];
    let sometimes = [
        ("knn_top1", epoch.knn_top1.map(f64::from)),
        ("empty_close", epoch.empty_close),
        ("close_size", epoch.clusters.map(|found| found.close_size)),
        ("close_purity", epoch.clusters.and_then(|found| found.close_purity)),
        ("mean_cosine", epoch.mean_cosine),
        ("effective_rank", epoch.effective_rank),
        ("peak_rss_mb", epoch.peak_rss_mb),
    ];
    let sometimes = sometimes.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let values: Vec<(&str, f32)> = always.into_iter().chain(sometimes).map(|(name, value)| (name, value as f32)).collect();
    scalars(epoch.unix_time, epoch.epoch as u64, &values)
}

/// One record that holds named values at a step.
///
/// `wall_time` is in seconds since 1970.
fn scalars(wall_time: f64, step: u64, values: &[(&str, f32)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | 5); // simple_value, a fixed 32-bit field
        entry.extend(value.to_le_bytes());
        bytes_field(&mut summary, 1, &entry);
    }
    let mut event = wall_time_field(wall_time);
    event.push(2 << 3); // step, a varint
    varint(&mut event, step);
    bytes_field(&mut event, 5, &summary);
    record(&event)
}

fn wall_time_field(seconds: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1]; // a fixed 64-bit field
    event.extend(seconds.to_le_bytes());
    event
}

fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), event, &masked_crc(event)].concat()
}

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli), bit by bit: event files are a few kilobytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())))
}
