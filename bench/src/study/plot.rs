//! A plot as one SVG file without anything outside it, readable on light and dark pages, with or without colours.

use std::fmt::Write as _;

use super::page::{drawn, servers};
use super::{Measured, Question};
use crate::compare::case::Metric;
use crate::compare::contender::Contender;
use crate::compare::statistics::Spread;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// Room for the axes' names, and on the right for the servers'.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;
/// Between two names on the right.
const NAME_HEIGHT: f64 = 16.0;
/// Half the width of a mark.
const MARK: f64 = 4.0;

const STYLE: &str = "\
    .page{fill:#fff}.ink{fill:#1f2328}.soft{fill:#59636e}.grid{stroke:#d8dee4;stroke-width:1}\
    text{font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}\
    .line{fill:none;stroke-width:2}.range{stroke-width:1.5}\
    .c0{--c:#0969da}.c1{--c:#57606a}.c2{--c:#bc4c00}.c3{--c:#1a7f37}.c4{--c:#8250df}.c5{--c:#9a6700}.c6{--c:#bf3989}\
    .s{stroke:var(--c)}.f{fill:var(--c)}\
    @media(prefers-color-scheme:dark){.page{fill:#0d1117}.ink{fill:#f0f6fc}.soft{fill:#9198a1}.grid{stroke:#3d444d}\
    .c0{--c:#4493f8}.c1{--c:#9198a1}.c2{--c:#f0883e}.c3{--c:#3fb950}.c4{--c:#ab7df8}.c5{--c:#d29922}.c6{--c:#db61a2}}";
/// Colours in [`STYLE`], and dashes beside them.
const LOOKS: [&str; 7] = ["", "2 3", "8 3", "8 3 2 3", "5 2", "2 2 6 2", "12 3"];

/// One server's line: where on the axis, and how much.
struct Line {
    name: String,
    points: Vec<(f64, Spread)>,
}

/// Both axes are logarithmic. `None` if there is nothing to draw: no value, or none above zero.
pub fn draw(question: &Question, measured: &[Measured]) -> Option<String> {
    let metric = drawn(question, measured)?;
    let lines = lines(measured, metric);
    let spreads = || lines.iter().flat_map(|line| line.points.iter().map(|(_, spread)| *spread));
    let low = spreads().map(|spread| spread.min).min_by(f64::total_cmp)?;
    let high = spreads().map(|spread| spread.max).max_by(f64::total_cmp)?;
    let (first, last) = (question.points.first()?.at, question.points.last()?.at);
    let across = Scale { from: first, to: last, at: LEFT, length: WIDTH - LEFT - RIGHT };
    let up = Scale { from: low / 1.15, to: high * 1.15, at: HEIGHT - BOTTOM, length: TOP + BOTTOM - HEIGHT };

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
        escaped(question.asks)
    );
    let text = |x: f64, y: f64, class: &str, anchor: &str, what: &str| {
        let what = escaped(what);
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{what}</text>\n")
    };
    out.push_str(&text(LEFT - 54.0, 22.0, "ink title", "start", question.asks));
    out.push_str(&text(LEFT - 54.0, 40.0, "soft", "start", &format!("{}, logarithmic", metric.title())));
    for tick in ticks(up.from, up.to) {
        let y = up.place(tick);
        let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
        out.push_str(&text(LEFT - 8.0, y + 4.0, "soft", "end", &number(tick)));
    }
    for point in &question.points {
        let x = across.place(point.at);
        out.push_str(&text(x, HEIGHT - BOTTOM + 20.0, "soft", "middle", &point.label));
    }
    out.push_str(&text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "soft", "middle", question.axis));
    for (index, line) in lines.iter().enumerate() {
        draw_line(&mut out, index, line, &across, &up);
    }
    for (index, y) in name_places(&lines, &up) {
        let class = format!("f c{}", index % LOOKS.len());
        out.push_str(&text(WIDTH - RIGHT + 14.0, y + 4.0, &class, "start", &lines[index].name));
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn lines(measured: &[Measured], metric: Metric) -> Vec<Line> {
    let of = |name: String, who: &dyn Fn(&Measured) -> Contender| {
        let spread = |measured: &Measured| measured.result.spread(who(measured), metric);
        let points = measured.iter().filter_map(|measured| Some((measured.point.at, spread(measured)?)));
        Line { name, points: points.filter(|(_, spread)| spread.min > 0.0).collect() }
    };
    let fanfare = of("fanfare".to_owned(), &|measured| measured.point.fanfare());
    let others = servers(measured).into_iter().map(|who| of(who.to_string(), &|_| who));
    std::iter::once(fanfare).chain(others).filter(|line| !line.points.is_empty()).collect()
}

fn draw_line(out: &mut String, index: usize, line: &Line, across: &Scale, up: &Scale) {
    let (look, dashes) = (index % LOOKS.len(), LOOKS[index % LOOKS.len()]);
    let places = line.points.iter().map(|(at, spread)| (across.place(*at), spread));
    let path: Vec<String> =
        places.clone().map(|(x, spread)| format!("{x:.1} {:.1}", up.place(spread.median))).collect();
    let _ = writeln!(
        out,
        "<g class=\"c{look}\"><path class=\"line s\" stroke-dasharray=\"{dashes}\" d=\"M{}\"/>",
        path.join("L")
    );
    for (x, spread) in places {
        let (top, middle, bottom) = (up.place(spread.max), up.place(spread.median), up.place(spread.min));
        let _ = writeln!(out, "<path class=\"range s\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>");
        let mark = match index % 3 {
            0 => format!("<circle class=\"f\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"{MARK}\"/>"),
            1 => format!(
                "<rect class=\"f\" x=\"{:.1}\" y=\"{:.1}\" width=\"{side}\" height=\"{side}\"/>",
                x - MARK,
                middle - MARK,
                side = 2.0 * MARK
            ),
            _ => format!(
                "<path class=\"f\" d=\"M{x:.1} {:.1}l{MARK} {side}h-{side}z\"/>",
                middle - MARK,
                side = 2.0 * MARK
            ),
        };
        out.push_str(&mark);
        out.push('\n');
    }
    out.push_str("</g>\n");
}

/// Names beside the last point of their lines, pushed apart where they would lie on each other.
fn name_places(lines: &[Line], up: &Scale) -> Vec<(usize, f64)> {
    let end = |line: &Line| line.points.last().map(|(_, spread)| up.place(spread.median)).expect("a line has points");
    let mut places: Vec<(usize, f64)> = lines.iter().map(end).enumerate().collect();
    places.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut free = TOP;
    for (_, y) in &mut places {
        *y = y.max(free);
        free = *y + NAME_HEIGHT;
    }
    let mut free = HEIGHT - BOTTOM;
    for (_, y) in places.iter_mut().rev() {
        *y = y.min(free);
        free = *y - NAME_HEIGHT;
    }
    places
}

/// From values to places in the picture.
struct Scale {
    from: f64,
    to: f64,
    at: f64,
    length: f64,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let whole = (self.to / self.from).ln();
        let part = if whole > 0.0 { (value / self.from).ln() / whole } else { 0.5 };
        self.at + part * self.length
    }
}

/// 1, 2 and 5 of every power of ten within the range; only powers of ten where it is wide.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let wide = to / from > 1e4;
    let powers = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
    let steps: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|tick| (from..=to).contains(tick)).collect()
}

fn number(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Scale, name_places, number, ticks};
    use crate::compare::statistics::Spread;

    #[test]
    fn scales_are_logarithmic_and_ticks_lie_on_them() {
        let scale = Scale { from: 1.0, to: 100.0, at: 10.0, length: 200.0 };
        assert!((scale.place(10.0) - 110.0).abs() < 1e-9);
        let found: Vec<String> = ticks(0.3, 6.0).into_iter().map(number).collect();
        assert_eq!(found, ["0.5", "1", "2", "5"]);
        assert_eq!(ticks(1.0, 1e6).len(), 7);
        assert_eq!(number(20_000.0), "20 k");
    }

    #[test]
    fn names_do_not_lie_on_each_other_and_stay_within() {
        let up = Scale { from: 1.0, to: 10.0, at: 384.0, length: -336.0 };
        let spread = Spread { median: 1.0, min: 1.0, max: 1.0, count: 1 };
        let line = || super::Line { name: String::new(), points: vec![(1.0, spread)] };
        let places = name_places(&[line(), line(), line()], &up);
        assert!(places.windows(2).all(|pair| pair[1].1 - pair[0].1 >= super::NAME_HEIGHT - 1e-9));
        assert!(places.iter().all(|(_, y)| *y <= super::HEIGHT - super::BOTTOM));
    }
}
