//! The text alternative of an HTML mail, for readers and spam filters that want one.

/// Elements whose content is nothing to read.
const SILENT: [&str; 4] = ["style", "script", "head", "title"];
/// Elements that begin a new line.
const BLOCKS: [&str; 16] =
    ["p", "br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "table", "ul", "ol", "li", "hr", "blockquote"];

/// The words of `html`, with the targets of links behind them.
pub(crate) fn from_html(html: &str) -> String {
    let mut writer = Writer::default();
    let mut link: Option<String> = None;
    let mut silent: Option<String> = None;
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        if silent.is_none() {
            writer.words(&decoded(&rest[..at]));
        }
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let Some(end) = end_of_tag(rest) else { return writer.finish() };
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        let closing = tag.starts_with('/');
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_lowercase();
        match &silent {
            Some(open) if closing && *open == name => silent = None,
            Some(_) => continue,
            None if !closing && SILENT.contains(&name.as_str()) => silent = Some(name),
            None if name == "a" && !closing => link = attribute(tag, "href").map(|url| decoded(&url)),
            None if name == "a" => {
                if let Some(url) = link.take().filter(|url| !url.is_empty() && !writer.ends_with(url)) {
                    writer.words(&format!(" ( {url} )"));
                }
            }
            None if BLOCKS.contains(&name.as_str()) => writer.new_line(),
            None => {}
        }
    }
    if silent.is_none() {
        writer.words(&decoded(rest));
    }
    writer.finish()
}

#[derive(Default)]
struct Writer {
    out: String,
    space: bool,
}

impl Writer {
    fn words(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.space = true;
                continue;
            }
            if self.space && !self.out.is_empty() && !self.out.ends_with('\n') {
                self.out.push(' ');
            }
            self.space = false;
            self.out.push(c);
        }
    }

    fn ends_with(&self, text: &str) -> bool {
        self.out.ends_with(text)
    }

    fn new_line(&mut self) {
        self.space = false;
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn finish(self) -> String {
        format!("{}\n", self.out.trim_end())
    }
}

/// Where the tag that `text` begins with ends, outside of quotes.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(i),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// The value of an attribute, if it is in quotes.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let lower = tag.to_ascii_lowercase();
    let at = lower.match_indices(name).map(|(at, _)| at).find(|at| lower[..*at].ends_with(char::is_whitespace))?;
    let value = tag[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next().map(str::to_owned)
}

fn decoded(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // Searched no further than a reference may be long.
        let reference = rest.bytes().take(11).position(|byte| byte == b';').map(|end| &rest[1..end]);
        match reference.and_then(character) {
            Some(c) => {
                out.push(c);
                rest = &rest[reference.map_or(0, str::len) + 2..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn character(reference: &str) -> Option<char> {
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let number = reference.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|c| !c.is_control())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_links_are_left() {
        let check = |html: &str, expected: &str| assert_eq!(from_html(html), expected, "{html}");
        check(
            "<style>p{}</style><h2>Hi</h2>\n<p>Follow <a class=\"x\" href=\"https://a.example/?a=1&amp;b=2\">this\n link</a></p><p>Bye</p>",
            "Hi\n\nFollow this link ( https://a.example/?a=1&b=2 )\n\nBye\n",
        );
        check("<a href='https://a.example'>https://a.example</a>", "https://a.example\n");
        check("a &lt;b&gt; &#34;c&#x22; &unknown; & d<!-- <p> -->e", "a <b> \"c\" &unknown; & de\n");
        check("<title>x</title>a<br>b<br/>c", "a\nb\nc\n");
        check("<p>cut <a href=\"", "cut\n");
        check("", "\n");
    }
}
