//! Charts as SVG: lines, bars and points; text is text, and colours are those that a page may replace for the dark.

use super::{load_font, plot_error, BLUE, FAINT, FONT, GRAY, GREEN, INK, ORANGE, VERMILION};
use crate::error::Result;
use plotters::coord::types::RangedCoordf64;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_svg::SVGBackend;

const SIZE: (u32, u32) = (620, 400);
const TEXT: u32 = 19;
/// The colours of runs, in their order.
pub const COLORS: [RGBColor; 6] = [BLUE, VERMILION, GREEN, ORANGE, RGBColor(204, 121, 167), RGBColor(86, 180, 233)];
/// Room for a line of a legend.
const LEGEND_LINE: u32 = 26;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What a chart's axes say.
pub struct Axes<'a> {
    pub x: &'a str,
    pub y: &'a str,
    /// The range of y; that of the points where none is given.
    pub range: Option<(f64, f64)>,
    /// Whether y is a fraction, shown in percent.
    pub is_percent: bool,
}

/// Points of one colour.
pub struct Series {
    pub name: String,
    pub color: RGBColor,
    pub is_dashed: bool,
    pub points: Vec<(f64, f64)>,
}

/// Bars of one colour, one in each group where there is a value.
pub struct Bars {
    pub name: String,
    pub color: RGBColor,
    pub values: Vec<Option<f64>>,
}

/// The colour of a class among many: hues as far apart as their number allows.
pub fn class_color(class: usize, num_classes: usize) -> RGBColor {
    if num_classes <= COLORS.len() {
        return COLORS[class];
    }
    // Neighbouring classes differ in lightness too.
    let (hue, lightness) = (class as f64 / num_classes as f64, [0.38, 0.55, 0.7][class % 3]);
    let (r, g, b) = HSLColor(hue, 0.65, lightness).to_backend_color().rgb;
    RGBColor(r, g, b)
}

/// Lines over a common x.
pub fn lines(axes: &Axes, series: &[Series]) -> Result<String> {
    let points = || series.iter().flat_map(|series| &series.points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let values = points().map(of).filter(|value| value.is_finite());
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x, (low, high)) = (widened(bounds(|p| p.0), 0.0), axes.range.unwrap_or_else(|| widened(bounds(|p| p.1), 0.05)));
    let legend: Vec<_> = series.iter().map(|series| (series.name.as_str(), series.color)).collect();
    drawn(SIZE, &legend, |area| {
        let mut chart = ChartBuilder::on(area);
        chart.margin(8).margin_right(16).x_label_area_size(52).y_label_area_size(76);
        let mut chart = chart.build_cartesian_2d(x.0..x.1, low..high).map_err(plot_error)?;
        mesh(&mut chart, axes, true)?;
        for Series { color, is_dashed, points, .. } in series {
            let points = points.iter().copied().filter(|p| p.1.is_finite());
            let style = color.stroke_width(2);
            match is_dashed {
                true => chart.draw_series(DashedLineSeries::new(points, 6, 4, style)).map(|_| ()),
                false => chart.draw_series(LineSeries::new(points, style)).map(|_| ()),
            }
            .map_err(plot_error)?;
        }
        Ok(())
    })
}

/// Bars in groups.
pub fn bars(axes: &Axes, groups: &[String], bars: &[Bars]) -> Result<String> {
    let highest = bars.iter().flat_map(|bars| bars.values.iter().flatten()).fold(1e-9f64, |high, &value| high.max(value));
    let legend: Vec<_> = bars.iter().map(|bars| (bars.name.as_str(), bars.color)).collect();
    drawn((840, 440), &legend, |area| {
        let mut chart = ChartBuilder::on(area);
        chart.margin(8).x_label_area_size(52).y_label_area_size(76);
        let mut chart = chart.build_cartesian_2d(0.0..groups.len() as f64, 0.0..1.08 * highest).map_err(plot_error)?;
        mesh(&mut chart, axes, false)?;
        let width = 0.8 / bars.len().max(1) as f64;
        for (place, Bars { color, values, .. }) in bars.iter().enumerate() {
            let bar = |(group, value): (usize, &Option<f64>)| {
                let left = group as f64 + 0.1 + place as f64 * width;
                value.map(|value| Rectangle::new([(left, 0.0), (left + 0.92 * width, value)], color.filled()))
            };
            chart.draw_series(values.iter().enumerate().filter_map(bar)).map_err(plot_error)?;
        }
        for (group, name) in groups.iter().enumerate() {
            let ((x, y), (left, top)) = (chart.backend_coord(&(group as f64 + 0.5, 0.0)), area.get_base_pixel());
            area.draw_text(name, &text(TEXT).pos(Pos::new(HPos::Center, VPos::Top)), (x - left, y - top + 8)).map_err(plot_error)?;
        }
        Ok(())
    })
}

/// Points on a plane without axes, as wide as high.
pub fn points(groups: &[Series], radius: u32) -> Result<String> {
    let all = || groups.iter().flat_map(|group| &group.points);
    let most = all().flat_map(|p| [p.0.abs(), p.1.abs()]).fold(1e-9f64, f64::max) * 1.04;
    let legend: Vec<_> = groups.iter().filter(|group| !group.name.is_empty()).map(|group| (group.name.as_str(), group.color)).collect();
    drawn((SIZE.0, SIZE.0), &legend, |area| {
        let mut chart = ChartBuilder::on(area);
        let mut chart = chart.margin(4).build_cartesian_2d(-most..most, -most..most).map_err(plot_error)?;
        for Series { color, points, .. } in groups {
            chart.draw_series(points.iter().map(|&point| Circle::new(point, radius, color.mix(0.8).filled()))).map_err(plot_error)?;
        }
        Ok(())
    })
}

/// A range that is not empty, with a margin as a share of it.
fn widened((low, high): (f64, f64), margin: f64) -> (f64, f64) {
    if low > high {
        return (0.0, 1.0);
    }
    let more = margin * (high - low).max(1e-3);
    (low - more, if high > low { high + more } else { high + more.max(1.0) })
}

/// The text of an SVG: what `draw` draws, above it a legend.
fn drawn((width, height): (u32, u32), legend: &[(&str, RGBColor)], draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    load_font()?;
    let places = places(legend, width);
    let lines = places.last().map_or(0, |place| place.1 + 1);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width, height + lines * LEGEND_LINE)).into_drawing_area();
        let (head, body) = root.split_vertically(lines * LEGEND_LINE);
        for ((name, color), (x, line)) in legend.iter().zip(places) {
            let (x, y) = (x as i32, (line * LEGEND_LINE) as i32);
            head.draw(&Rectangle::new([(x, y + 5), (x + 14, y + 19)], color.filled())).map_err(plot_error)?;
            head.draw_text(name, &text(TEXT), (x + 20, y + 3)).map_err(plot_error)?;
        }
        draw(&body)?;
        root.present().map_err(plot_error)?;
    }
    Ok(svg)
}

/// Where each entry of a legend begins, and on which line.
fn places(legend: &[(&str, RGBColor)], width: u32) -> Vec<(u32, u32)> {
    let (mut x, mut line) = (8, 0);
    let mut place = |(name, _): &(&str, RGBColor)| {
        // Wide letters of the font: what is too long for a line is cut at the end of the picture.
        let needed = 38 + (name.chars().count() as u32 * TEXT * 50).div_ceil(100);
        if x > 8 && x + needed > width {
            (x, line) = (8, line + 1);
        }
        x += needed;
        (x - needed, line)
    };
    legend.iter().map(&mut place).collect()
}

fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

fn mesh(chart: &mut Chart, axes: &Axes, has_x: bool) -> Result<()> {
    let percent: &dyn Fn(&f64) -> String = &|value| format!("{:.0} %", 100.0 * value);
    let plain: &dyn Fn(&f64) -> String = &|value| ((value * 1e4).round() / 1e4).to_string();
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().light_line_style(TRANSPARENT).bold_line_style(FAINT).axis_style(GRAY).label_style(text(TEXT));
    mesh.x_desc(axes.x).y_desc(axes.y).x_labels(if has_x { 8 } else { 0 }).y_labels(7).x_label_formatter(plain);
    mesh.y_label_formatter(if axes.is_percent { percent } else { plain });
    mesh.draw().map_err(plot_error)
}
