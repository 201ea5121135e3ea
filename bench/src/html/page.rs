//! The frame of a report: one file that needs nothing else, no network, no script.
//!
//! The policy in its head makes browsers hold it to that, whatever a text in it contains.

use super::markup::Markup;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n";

const STYLE: &str = "<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 1000px;
       margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; margin: 0.6em 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2em 0.9em 0.2em 0; border-bottom: 1px solid #d9dde2; text-align: left;
         vertical-align: top; }
table.figures td + td, table.figures th + th { text-align: right; }
.notice { border-left: 4px solid #c62828; padding: 0.3em 0.8em; background: #fdf0ef; }
.note { color: #57606a; font-size: 0.9em; }
svg { display: block; width: 100%; height: auto; margin: 0.4em 0; }
svg text { font: 11px system-ui, sans-serif; fill: #424a53; }
.grid { stroke: #e4e7eb; } .boundary { stroke: #8c959f; stroke-dasharray: 3 3; }
.line { fill: none; stroke: #0b62b8; stroke-width: 1.5; }
.dot { fill: #0b62b8; } .part { fill: #fff; stroke: #0b62b8; }
.moves { fill: #f2c14e; opacity: 0.35; } .bar { fill: #0b62b8; }
</style>
";

/// A report that is being written, from top to bottom.
#[derive(Debug)]
pub struct Page {
    title: &'static str,
    body: Markup,
}

/// Rows of text under a header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Page {
    /// A page with its title as headline.
    #[must_use]
    pub fn new(title: &'static str) -> Self {
        let body = Markup::tag("h1", title);
        Self { title, body }
    }

    /// The headline of a section.
    pub fn heading(&mut self, text: &str) {
        self.body.push(Markup::tag("h2", text));
    }

    /// A sentence.
    pub fn paragraph(&mut self, text: &str) {
        self.body.push(Markup::tag("p", text));
    }

    /// What a figure is, in small print.
    pub fn note(&mut self, text: &str) {
        self.classed("p", "note", Markup::text(text));
    }

    /// What nobody may overlook.
    pub fn notice(&mut self, text: &str) {
        self.classed("p", "notice", Markup::text(text));
    }

    /// Figures: a name and its numbers, aligned for comparison.
    pub fn figures(&mut self, table: &Table) {
        self.classed("table", "figures", rows_of(table));
    }

    /// Names and what they stand for.
    pub fn facts(&mut self, rows: Vec<(&str, String)>) {
        let rows = rows.into_iter();
        let table = Table {
            header: Vec::new(),
            rows: rows
                .map(|(name, fact)| vec![name.to_owned(), fact])
                .collect(),
        };
        self.body
            .push(Markup::element("table", [], rows_of(&table)));
    }

    /// A drawing.
    pub fn drawing(&mut self, drawing: Markup) {
        self.body.push(drawing);
    }

    /// The whole document.
    #[must_use]
    pub fn finish(self) -> String {
        let title = Markup::tag("title", self.title);
        let body = Markup::element("body", [], self.body);
        let (title, body) = (title.as_str(), body.as_str());
        format!("{HEAD}{title}\n{STYLE}</head>\n{body}\n</html>\n")
    }

    fn classed(&mut self, name: &'static str, class: &str, content: Markup) {
        let attributes = [("class", class.to_owned())];
        self.body.push(Markup::element(name, attributes, content));
    }
}

fn rows_of(table: &Table) -> Markup {
    let row = |cells: &[String], cell: &'static str| {
        let cells = cells.iter().map(|text| Markup::tag(cell, text));
        Markup::element("tr", [], cells.collect())
    };
    let mut rows = Markup::empty();
    if !table.header.is_empty() {
        rows.push(row(&table.header, "th"));
    }
    for cells in &table.rows {
        rows.push(row(cells, "td"));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_whole_and_text_in_it_is_text() {
        let mut page = Page::new("A & B");
        page.heading("1 < 2");
        page.notice("<b>stopped</b>");
        page.facts(vec![("name", "</table>".to_owned())]);
        page.figures(&Table {
            header: vec![String::new(), "p50".to_owned()],
            rows: vec![vec!["all".to_owned(), "1.00".to_owned()]],
        });
        let text = page.finish();
        assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
        for part in [
            "<title>A &amp; B</title>",
            "<h2>1 &lt; 2</h2>",
            "<p class=\"notice\">&lt;b&gt;stopped&lt;/b&gt;</p>",
            "<td>&lt;/table&gt;</td>",
            "<tr><th></th><th>p50</th></tr><tr><td>all</td><td>1.00</td></tr>",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
