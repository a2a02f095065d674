//! All figures and tables of a report, in their order.

mod accuracy;
mod clusters;
mod curves;
mod density;
mod layers;
mod map;
mod mds;
mod neighborhoods;
mod panels;

use super::args::Data;
use super::page::Page;
use super::subject::Subject;
use candle_core::Device;

/// All that a report shows, in order.
pub fn fill(page: &mut Page, subjects: &[Subject], data: &Data, device: &Device) -> anyhow::Result<()> {
    accuracy::runs(page, subjects, data)?;
    curves::add(page, subjects)?;
    neighborhoods::add(page, subjects)?;
    accuracy::add(page, subjects)?;
    if data.has_layers {
        layers::add(page, subjects, device)?;
    }
    density::add(page, subjects)?;
    panels::add(page, &subjects[0])?;
    mds::add(page, &subjects[0])?;
    map::add(page, &subjects[0])?;
    clusters::add(page, subjects)
}
