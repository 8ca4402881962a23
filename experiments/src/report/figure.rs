//! Sizes of figures on pages and on paper, and the common part of their captions.

use super::data::{MAX_ROWS, stride};
use super::line_plot::{LinePlot, Size, Width};
use super::page::{Figure, Page, Plot};
use super::svg::Svg;
use super::{bars, heat_map};
use crate::show::format::{self, significant};

/// Size on wide pages.
const WIDE: Size = Size {
    width: 1152.0,
    height: 340.0,
};

/// Size on phones.
const NARROW: Size = Size {
    width: 400.0,
    height: 300.0,
};

/// Size in papers, in print and on tablets.
const PAPER: Size = Size {
    width: 720.0,
    height: 330.0,
};

/// Size of a plot that shares its row with another.
const HALF: Size = Size {
    width: 500.0,
    height: 260.0,
};

/// Size of points and curves that share their row with others.
const HALF_SCATTER: Size = Size {
    width: 500.0,
    height: 340.0,
};

/// Size of points and curves on wide pages.
const WIDE_SCATTER: Size = Size {
    width: 1152.0,
    height: 460.0,
};

/// Draws the figure in each size of a page, with its class. The style sheet shows the size that fits.
pub(super) fn views(figure: &Figure) -> Vec<(&'static str, Svg)> {
    let sizes = [("wide", WIDE), ("medium", PAPER), ("narrow", NARROW)];
    match &figure.plot {
        Plot::Lines(plot) if plot.width == Width::Half => {
            let sizes = [("one", HALF), ("narrow", NARROW)];
            sizes
                .map(|(variant, size)| (variant, plot.draw(&figure.id, size, variant)))
                .into()
        }
        Plot::Lines(plot) => sizes
            .map(|(variant, size)| (variant, plot.draw(&figure.id, size, variant)))
            .into(),
        Plot::Boxes(boxes) => sizes
            .map(|(variant, size)| (variant, bars::draw_boxes(boxes, size.width)))
            .into(),
        Plot::Scatter(plot) => {
            let sizes: &[(&'static str, Size)] = match plot.width {
                Width::Half => &[("one", HALF_SCATTER), ("narrow", NARROW)],
                Width::Full => &[
                    ("wide", WIDE_SCATTER),
                    ("medium", PAPER),
                    ("narrow", NARROW),
                ],
            };
            let views = sizes.iter();
            views
                .map(|(variant, size)| (*variant, plot.draw(&figure.id, *size, variant)))
                .collect()
        }
        Plot::Bars(_) | Plot::HeatMap(_) => vec![("one", paper(figure))],
    }
}

/// Returns whether the figure shares its row of a wide page with others.
pub(super) fn is_small(figure: &Figure) -> bool {
    match &figure.plot {
        Plot::Lines(plot) => plot.width == Width::Half,
        Plot::Scatter(plot) => plot.width == Width::Half,
        Plot::Boxes(_) => false,
        Plot::Bars(_) | Plot::HeatMap(_) => true,
    }
}

/// Draws the figure for a file.
pub(super) fn paper(figure: &Figure) -> Svg {
    match &figure.plot {
        Plot::Lines(plot) => plot.draw(&figure.id, PAPER, "paper"),
        Plot::Boxes(boxes) => bars::draw_boxes(boxes, PAPER.width),
        Plot::Bars(bars) => bars::draw_bars(bars),
        Plot::HeatMap(map) => heat_map::draw(map),
        Plot::Scatter(plot) => plot.draw(&figure.id, PAPER, "paper"),
    }
}

/// Returns the caption, with sentences about values that the picture or its data omits.
pub(super) fn caption(figure: &Figure, page: &Page) -> String {
    match &figure.plot {
        Plot::Lines(plot) => figure.caption.clone() + &omissions(plot, page.data_file),
        _ => figure.caption.clone(),
    }
}

fn omissions(plot: &LinePlot, data_file: &str) -> String {
    let mut text = String::new();
    if let Some(limit) = plot.cut() {
        let limit = significant(limit, 2);
        text += &format!(" Values above {limit} are cut off.");
    }
    let steps = plot.steps();
    if steps > MAX_ROWS {
        let stride = stride(steps);
        text += &format!(
            " The run has {} steps; hover and CSV show every {stride}th step, the curves keep the extremes between \
             them, and {data_file} holds every step.",
            format::count(steps as u64)
        );
    }
    text
}
