//! Markup that cannot hold unescaped text: elements are made of names and attributes that the program
//! spells out, and of text that is escaped on its way in.

/// A piece of HTML or SVG, ready to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Text as people shall read it.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut markup = Self::default();
        markup.push_text(text);
        markup
    }

    /// `<name attributes>content</name>`. Every element is closed by name, which HTML wants of all
    /// but a few that are not needed here.
    #[must_use]
    pub fn element<const N: usize>(
        name: &'static str,
        attributes: [(&'static str, String); N],
        content: Self,
    ) -> Self {
        let mut markup = Self(format!("<{name}"));
        for (key, value) in attributes {
            markup.0 += &format!(" {key}=\"");
            markup.push_text(&value);
            markup.0.push('"');
        }
        markup.0.push('>');
        markup.push(content);
        markup.0 += &format!("</{name}>");
        markup
    }

    /// An element without attributes that holds text.
    #[must_use]
    pub fn tag(name: &'static str, text: &str) -> Self {
        Self::element(name, [], Self::text(text))
    }

    /// Appends markup.
    pub fn push(&mut self, more: Self) {
        self.0 += &more.0;
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn push_text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0 += "&amp;",
                '<' => self.0 += "&lt;",
                '>' => self.0 += "&gt;",
                '"' => self.0 += "&quot;",
                '\'' => self.0 += "&#39;",
                other => self.0.push(other),
            }
        }
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(pieces: I) -> Self {
        let mut all = Self::default();
        pieces.into_iter().for_each(|piece| all.push(piece));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_cannot_leave_their_place() {
        let evil = "\"><script>alert('&amp;')</script>";
        let markup = Markup::element("p", [("title", evil.to_owned())], Markup::text(evil));
        let escaped = "&quot;&gt;&lt;script&gt;alert(&#39;&amp;amp;&#39;)&lt;/script&gt;";
        assert_eq!(
            markup.as_str(),
            format!("<p title=\"{escaped}\">{escaped}</p>")
        );
    }

    #[test]
    fn pieces_are_put_together_in_order() {
        let rows: Markup = ["a", "b"]
            .map(|text| Markup::tag("li", text))
            .into_iter()
            .collect();
        assert_eq!(rows.as_str(), "<li>a</li><li>b</li>");
        assert_eq!(Markup::empty().as_str(), "");
    }
}
