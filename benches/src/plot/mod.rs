//! Plots as SVG, readable on light and on dark pages: few shapes, every number written beside its shape.
//!
//! A plot brings its own background, because a page may be dark where the reader's system is light.

pub mod bars;
pub mod spans;

/// Width of every plot, and of the part that shapes are drawn in.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 24.0;
const INNER: f64 = WIDTH - 2.0 * LEFT;

const STYLE: &str = "\
.page{fill:#ffffff}.grid{stroke:#d8dee4}.mark{stroke:#57606a}text{font:12px system-ui,sans-serif;fill:#24292f}\
.title{font-size:15px;font-weight:600}.faint{fill:#57606a}.s0{fill:#0969da}.s1{fill:#2da44e}.s2{fill:#bc6c00}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.grid{stroke:#30363d}.mark{stroke:#9198a1}text{fill:#e6edf3}\
.faint{fill:#9198a1}.s0{fill:#58a6ff}.s1{fill:#3fb950}.s2{fill:#e3a13b}}";

/// A plot that is being drawn.
struct Svg {
    shapes: String,
}

#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// With its title, and the names of what is compared in their colours.
    fn new(title: &str, names: &[&str]) -> Self {
        let mut svg = Self { shapes: String::new() };
        svg.text((LEFT, 28.0), Anchor::Start, "title", title);
        let mut x = LEFT;
        for (index, name) in names.iter().enumerate() {
            svg.bar((x, 44.0), (12.0, 12.0), index);
            svg.text((x + 18.0, 54.0), Anchor::Start, "", name);
            x += 40.0 + 8.0 * name.len() as f64;
        }
        svg
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.shapes.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>\n"
        ));
    }

    fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), series: usize) {
        self.shapes.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" class=\"s{series}\"/>\n"
        ));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.shapes.push_str(&format!("<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" class=\"{class}\"/>\n"));
    }

    fn dot(&mut self, (x, y): (f64, f64), series: usize) {
        self.shapes.push_str(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" class=\"s{series}\"/>\n"));
    }

    fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
             <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n{}</svg>\n",
            self.shapes
        )
    }
}
