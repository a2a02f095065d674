//! Loss and kNN accuracy by epoch, with what raw pixels and the untrained network reach as lines to beat.

use super::{load_font, plot_error, save_png, BLUE, FAINT, FONT, GRAY, GREEN, INK, ORANGE, VERMILION};
use crate::error::{bail, Result};
use plotters::coord::types::RangedCoordf64;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const SIZE: (u32, u32) = (1280, 520);

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One epoch of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Epochs done, from 1.
    pub epoch: usize,
    /// Whether the objective was Local Aggregation; instance recognition otherwise.
    pub is_local_aggregation: bool,
    /// Mean loss of the epoch.
    pub loss: f64,
    /// kNN accuracy after the epoch, 0–1, where there are labels.
    pub knn_top1: Option<f64>,
}

/// What `curves.png` shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    /// Line above the picture.
    pub title: String,
    /// The protocol of the accuracy, such as `K = 200, τ = 0.07`.
    pub knn_protocol: String,
    /// The epochs, in order.
    pub points: Vec<CurvePoint>,
    /// kNN accuracy of the raw pixels, 0–1.
    pub raw_pixels: Option<f64>,
    /// kNN accuracy of the network before training, 0–1.
    pub random_init: Option<f64>,
    /// A run on the same budget to compare with, where there is one.
    pub beside: Option<BesideCurve>,
}

/// The accuracy of another run, drawn beside a run's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BesideCurve {
    /// What it is called in the legend.
    pub name: String,
    /// kNN accuracy, 0–1, after each epoch that it is known of.
    pub points: Vec<(usize, f64)>,
}

/// Draws `curves` as a PNG file; an epoch whose loss is not finite is left out.
///
/// Fails without any epoch, and where the file cannot be written.
pub fn draw_curves(curves: &Curves, path: &Path) -> Result<()> {
    if curves.points.is_empty() {
        bail!("{}: there is no epoch to draw yet", path.display());
    }
    load_font()?;
    let mut pixels = vec![255; (SIZE.0 * SIZE.1 * 3) as usize];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        let root = root.margin(10, 0, 0, 0).titled(&curves.title, (FONT, 22).into_font().color(&INK)).map_err(plot_error)?;
        let has_accuracy = curves.points.iter().any(|point| point.knn_top1.is_some());
        let panels = root.split_evenly((1, if has_accuracy { 2 } else { 1 }));
        draw_loss(curves, &panels[0])?;
        if has_accuracy {
            draw_accuracy(curves, &panels[1])?;
        }
        root.present().map_err(plot_error)?;
    }
    save_png(&pixels, SIZE, path)
}

fn draw_loss(curves: &Curves, area: &Area) -> Result<()> {
    let split = |is_local_aggregation: bool| -> Vec<(f64, f64)> {
        let chosen = curves.points.iter().filter(|p| p.is_local_aggregation == is_local_aggregation && p.loss.is_finite());
        chosen.map(|p| (p.epoch as f64, p.loss)).collect()
    };
    let (recognition, aggregation) = (split(false), split(true));
    let top = recognition.iter().chain(&aggregation).fold(0.0f64, |top, p| top.max(p.1));
    let mut chart = axes(area, "loss (mean over the epoch)", (last_epoch(curves), 0.0, top.max(1e-3) * 1.1), |v| format!("{v:.1}"))?;
    mark_switch(curves, &mut chart, top.max(1e-3) * 1.1)?;
    draw_line(&mut chart, recognition, ORANGE, "instance recognition")?;
    draw_line(&mut chart, aggregation, BLUE, "local aggregation")?;
    legend(&mut chart, SeriesLabelPosition::LowerLeft)
}

fn draw_accuracy(curves: &Curves, area: &Area) -> Result<()> {
    let mut points: Vec<(f64, f64)> = curves.random_init.map(|accuracy| (0.0, accuracy)).into_iter().collect();
    points.extend(curves.points.iter().filter_map(|p| Some((p.epoch as f64, p.knn_top1?))));
    let beside: Vec<(f64, f64)> = curves.beside.iter().flat_map(|run| &run.points).map(|&(epoch, top1)| (epoch as f64, top1)).collect();
    let all = || points.iter().chain(&beside).map(|p| p.1).chain(curves.raw_pixels);
    let (low, high) = (all().fold(1.0, f64::min), all().fold(0.0, f64::max));
    // The legend goes below the curves.
    let margin = (high - low).max(0.05);
    let (low, high) = ((low - 0.5 * margin).max(0.0), (high + 0.15 * margin).min(1.0));
    let name = format!("kNN top-1 accuracy ({})", curves.knn_protocol);
    let mut chart = axes(area, &name, (last_epoch(curves), low, high), |v| format!("{:.0} %", 100.0 * v))?;
    mark_switch(curves, &mut chart, high)?;
    let levels = [("raw pixels", curves.raw_pixels, VERMILION), ("before training", curves.random_init, GRAY)];
    for (label, level, color) in levels.into_iter().filter_map(|(label, level, color)| Some((label, level?, color))) {
        draw_level(&mut chart, (level, last_epoch(curves)), color, &format!("{label}: {:.1} %", 100.0 * level))?;
    }
    let at_the_end = |name: &str, points: &[(f64, f64)]| format!("{name}: {:.1} % at the end", 100.0 * points.last().map_or(0.0, |p| p.1));
    if let Some(run) = &curves.beside {
        let label = at_the_end(&run.name, &beside);
        draw_line(&mut chart, beside, ORANGE, &label)?;
    }
    let label = at_the_end("this run", &points);
    draw_line(&mut chart, points, GREEN, &label)?;
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

fn last_epoch(curves: &Curves) -> f64 {
    let beside = curves.beside.iter().flat_map(|run| &run.points).map(|point| point.0);
    curves.points.iter().map(|point| point.epoch).chain(beside).max().unwrap_or(1).max(1) as f64
}

fn axes<'a, 'b>(area: &'a Area<'b>, title: &str, (last, low, high): (f64, f64, f64), label: fn(f64) -> String) -> Result<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(title, (FONT, 17).into_font().color(&INK))
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..1.02 * last, low..high)
        .map_err(plot_error)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(GRAY)
        .label_style((FONT, 14).into_font().color(&INK))
        .x_labels((last as usize + 1).min(11))
        .x_label_formatter(&|v| if v.fract().abs() < 1e-6 { format!("{v:.0}") } else { String::new() })
        .y_label_formatter(&|v| label(*v))
        .x_desc("epoch")
        .draw()
        .map_err(plot_error)?;
    Ok(chart)
}

fn draw_line(chart: &mut Chart, points: Vec<(f64, f64)>, color: RGBColor, label: &str) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    chart
        .draw_series(LineSeries::new(points.clone(), color.stroke_width(3)))
        .map_err(plot_error)?
        .label(label)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(3)));
    // Dots show where each epoch ended; past some count they only thicken the line.
    if points.len() <= 40 {
        chart.draw_series(points.iter().map(|&p| Circle::new(p, 4, color.filled()))).map_err(plot_error)?;
    }
    Ok(())
}

fn draw_level(chart: &mut Chart, (level, last): (f64, f64), color: RGBColor, label: &str) -> Result<()> {
    chart
        .draw_series(DashedLineSeries::new([(0.0, level), (last, level)], 7, 5, color.stroke_width(2)))
        .map_err(plot_error)?
        .label(label)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(2)));
    Ok(())
}

/// A line where instance recognition gave way to Local Aggregation.
fn mark_switch(curves: &Curves, chart: &mut Chart, top: f64) -> Result<()> {
    let Some(first) = curves.points.iter().position(|p| p.is_local_aggregation).filter(|&first| first > 0) else { return Ok(()) };
    let at = curves.points[first - 1].epoch as f64;
    let style = (FONT, 13).into_font().color(&GRAY).pos(Pos::new(HPos::Left, VPos::Top));
    let bottom = chart.y_range().start;
    chart.draw_series(DashedLineSeries::new([(at, bottom), (at, top)], 3, 4, GRAY.stroke_width(1))).map_err(plot_error)?;
    chart.draw_series([Text::new(" local aggregation →", (at, top), style)]).map_err(plot_error)?;
    Ok(())
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, position: SeriesLabelPosition) -> Result<()> {
    chart
        .configure_series_labels()
        .position(position)
        .margin(12)
        .legend_area_size(28)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font((FONT, 14).into_font().color(&INK))
        .draw()
        .map_err(plot_error)
}
