//! The language inside of actions: Go's pipelines, translated to expressions of minijinja.

use std::fmt::Write as _;

/// A token of an action.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `.`, `.A.B`, `$`, `$.A`; whether it begins at the root, and the names.
    Path(bool, Vec<String>),
    Text(String),
    Number(String),
    Word(String),
    Open,
    Close,
    Pipe,
}

/// Longest action in bytes, names of a path and arguments of a call: minijinja compiles and drops what it reads by
/// recursion, one call for each link of a chain.
const LONGEST: usize = 4096;
const MOST_NAMES: usize = 16;
const MOST_ARGUMENTS: usize = 16;

fn tokens(code: &str) -> Result<Vec<Token>, String> {
    if code.len() > LONGEST {
        return Err(format!("an action is longer than {LONGEST} bytes"));
    }
    let mut out = Vec::new();
    let mut chars = code.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let token = match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '|' => Token::Pipe,
            '"' => {
                let mut text = String::new();
                loop {
                    match chars.next().map(|(_, c)| c) {
                        Some('"') => break,
                        Some('\\') => match chars.next().map(|(_, c)| c) {
                            Some('n') => text.push('\n'),
                            Some('t') => text.push('\t'),
                            Some(c @ ('"' | '\\' | '\'')) => text.push(c),
                            _ => return Err("an escape in a text is not understood".to_owned()),
                        },
                        Some(c) => text.push(c),
                        None => return Err("a text is not closed".to_owned()),
                    }
                }
                Token::Text(text)
            }
            '`' => {
                let rest = &code[at + 1..];
                let end = rest.find('`').ok_or("a text is not closed")?;
                while chars.next_if(|(i, _)| *i <= at + 1 + end).is_some() {}
                Token::Text(rest[..end].to_owned())
            }
            '.' | '$' => {
                let mut end = at + 1;
                while let Some((i, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || matches!(c, '_' | '.')) {
                    end = i + c.len_utf8();
                }
                let text = &code[at..end];
                let path = text.trim_start_matches('$');
                if c == '$' && !path.is_empty() && !path.starts_with('.') {
                    return Err(format!("variables such as {text} are not supported"));
                }
                let names: Vec<String> =
                    path.split('.').skip(1).filter(|name| !name.is_empty()).map(str::to_owned).collect();
                if path.len() > 1 && path.matches('.').count() != names.len() {
                    return Err(format!("{text} is no path"));
                }
                if names.len() > MOST_NAMES {
                    return Err(format!("a path has more than {MOST_NAMES} names"));
                }
                Token::Path(c == '$', names)
            }
            '-' | '0'..='9' => {
                let mut end = at + 1;
                while let Some((i, _)) = chars.next_if(|(_, c)| c.is_ascii_digit() || *c == '.') {
                    end = i + 1;
                }
                let number = &code[at..end];
                number.parse::<f64>().map_err(|_| format!("{number} is no number"))?;
                Token::Number(number.to_owned())
            }
            c if c.is_alphabetic() => {
                let mut end = at + c.len_utf8();
                while let Some((i, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    end = i + c.len_utf8();
                }
                Token::Word(code[at..end].to_owned())
            }
            other => return Err(format!("\"{other}\" is not understood")),
        };
        out.push(token);
    }
    Ok(out)
}

/// How deep parentheses may be.
const DEEPEST: usize = 16;

struct Reader<'a> {
    tokens: &'a [Token],
    /// The variable that the dot stands for.
    dot: &'a str,
    depth: usize,
}

/// An expression of minijinja for the pipeline `code`, where a dot is the variable `dot`.
pub(super) fn pipeline(code: &str, dot: &str) -> Result<String, String> {
    let tokens = tokens(code)?;
    let mut reader = Reader { tokens: &tokens, dot, depth: 0 };
    let expression = reader.pipeline()?;
    if reader.tokens.is_empty() { Ok(expression) } else { Err("a parenthesis is not opened".to_owned()) }
}

impl Reader<'_> {
    fn pipeline(&mut self) -> Result<String, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("the parentheses are too deep".to_owned());
        }
        let mut value = self.command(None)?;
        let mut pipes = 0;
        while let [Token::Pipe, rest @ ..] = self.tokens {
            pipes += 1;
            if pipes > DEEPEST {
                return Err("there are too many pipes".to_owned());
            }
            self.tokens = rest;
            value = self.command(Some(value))?;
        }
        self.depth -= 1;
        Ok(value)
    }

    /// A function with its arguments, the value of the pipe being the last one, or one operand.
    fn command(&mut self, piped: Option<String>) -> Result<String, String> {
        let function = match self.tokens {
            [Token::Word(word), rest @ ..] if literal(word).is_none() => {
                self.tokens = rest;
                Some(word.clone())
            }
            _ => None,
        };
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand()? {
            if arguments.len() >= MOST_ARGUMENTS {
                return Err(format!("a call has more than {MOST_ARGUMENTS} values"));
            }
            arguments.push(argument);
        }
        match (function, piped) {
            (Some(name), piped) => {
                arguments.extend(piped);
                call(&name, arguments)
            }
            (None, None) if arguments.len() == 1 => Ok(arguments.remove(0)),
            (None, None) if arguments.is_empty() => Err("a value is missing".to_owned()),
            (None, _) => Err("only a function takes arguments".to_owned()),
        }
    }

    fn operand(&mut self) -> Result<Option<String>, String> {
        let [first, rest @ ..] = self.tokens else { return Ok(None) };
        let expression = match first {
            Token::Close | Token::Pipe => return Ok(None),
            Token::Open => {
                self.tokens = rest;
                let inner = self.pipeline()?;
                let [Token::Close, rest @ ..] = self.tokens else {
                    return Err("a parenthesis is not closed".to_owned());
                };
                self.tokens = rest;
                return Ok(Some(format!("({inner})")));
            }
            Token::Path(from_root, names) => {
                let mut path = if *from_root { "d0" } else { self.dot }.to_owned();
                for name in names {
                    // Writing to a String cannot fail.
                    write!(path, "[{}]", quoted(name)).ok();
                }
                path
            }
            Token::Text(text) => quoted(text),
            Token::Number(number) => format!("({number})"),
            Token::Word(word) => literal(word).ok_or_else(|| format!("{word} is not known here"))?.to_owned(),
        };
        self.tokens = rest;
        Ok(Some(expression))
    }
}

fn literal(word: &str) -> Option<&'static str> {
    match word {
        "true" => Some("true"),
        "false" => Some("false"),
        "nil" => Some("none"),
        _ => None,
    }
}

/// A string of minijinja: its escapes are those of JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn call(name: &str, arguments: Vec<String>) -> Result<String, String> {
    let fewest = match name {
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => 2,
        "index" | "and" | "or" | "not" | "len" | "html" | "urlquery" | "js" | "printf" => 1,
        "print" | "println" => 0,
        _ => return Err(format!("the function {name} is not supported")),
    };
    if arguments.len() < fewest {
        return Err(format!("{name} takes at least {fewest} values"));
    }
    let joined = |operator: &str| format!("({})", arguments.join(operator));
    let only_two = |operator: &str| match &arguments[..] {
        [a, b] => Ok(format!("({a} {operator} {b})")),
        _ => Err(format!("{name} takes two values")),
    };
    match name {
        "ne" => only_two("!="),
        "lt" => only_two("<"),
        "le" => only_two("<="),
        "gt" => only_two(">"),
        "ge" => only_two(">="),
        "and" => Ok(joined(" and ")),
        "or" => Ok(joined(" or ")),
        "not" => Ok(format!("(not {})", arguments[0])),
        "index" => Ok(arguments[1..].iter().fold(arguments[0].clone(), |value, key| format!("{value}[{key}]"))),
        name => Ok(format!("fn_{name}({})", arguments.join(", "))),
    }
}
