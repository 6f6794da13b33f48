//! A template in Go's language to one in minijinja's.

use super::html::Place;
use super::scan::{Part, scan};
use super::{Kind, TemplateError, action};

/// How deep blocks may be, and how many `else if` one may have: minijinja nests them.
const DEEPEST: usize = 32;
const MOST_BRANCHES: usize = 32;
/// Longest template, in bytes.
const LONGEST: usize = 256 * 1024;

pub(super) struct Translated {
    /// Of minijinja; the variable `t` has the texts, `d0` is the root.
    pub(super) source: String,
    pub(super) literals: Vec<String>,
}

/// A block that is open: what closes it, and whether it has a dot of its own.
struct Block {
    line: usize,
    end: &'static str,
    has_dot: bool,
    /// Whether `else if` may follow.
    is_if: bool,
    has_else: bool,
    branches: usize,
}

struct Translator {
    kind: Kind,
    out: String,
    literals: Vec<String>,
    blocks: Vec<Block>,
    /// The dot's variables, innermost last.
    dots: Vec<String>,
    place: Place,
}

pub(super) fn translate(kind: Kind, source: &str) -> Result<Translated, TemplateError> {
    let mut translator = Translator {
        kind,
        out: String::new(),
        literals: Vec::new(),
        blocks: Vec::new(),
        dots: vec!["d0".to_owned()],
        place: Place::new(),
    };
    if source.len() > LONGEST {
        return Err(TemplateError::Syntax { line: 1, what: format!("the template is longer than {LONGEST} bytes") });
    }
    for part in scan(source)? {
        match part {
            Part::Text(text) => {
                translator.place.pass_text(text);
                translator.out.push_str(&format!("{{{{ t[{}] }}}}", translator.literals.len()));
                translator.literals.push(text.to_owned());
            }
            Part::Action { line, code } => {
                translator.action(line, code).map_err(|what| TemplateError::Syntax { line, what })?;
            }
        }
    }
    match translator.blocks.last() {
        Some(block) => Err(TemplateError::Syntax { line: block.line, what: "this has no {{ end }}".to_owned() }),
        None => Ok(Translated { source: translator.out, literals: translator.literals }),
    }
}

impl Translator {
    fn dot(&self) -> &str {
        self.dots.last().map_or("d0", String::as_str)
    }

    fn action(&mut self, line: usize, code: &str) -> Result<(), String> {
        let word = code.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let rest = code[word.len()..].trim();
        match word {
            "if" => {
                let condition = action::pipeline(rest, self.dot())?;
                self.open(Block {
                    line,
                    end: "{% endif %}",
                    has_dot: false,
                    is_if: true,
                    has_else: false,
                    branches: 0,
                })?;
                self.out.push_str(&format!("{{% if {condition} %}}"));
            }
            "with" => {
                let (value, dot) = self.new_dot(rest)?;
                let end = "{% endif %}{% endwith %}";
                self.open(Block { line, end, has_dot: true, is_if: false, has_else: false, branches: 0 })?;
                self.out.push_str(&format!("{{% with {dot} = {value} %}}{{% if {dot} %}}"));
                self.dots.push(dot);
            }
            "range" => {
                let (value, dot) = self.new_dot(rest)?;
                self.open(Block {
                    line,
                    end: "{% endfor %}",
                    has_dot: true,
                    is_if: false,
                    has_else: false,
                    branches: 0,
                })?;
                self.out.push_str(&format!("{{% for {dot} in fn_items({value}) %}}"));
                self.dots.push(dot);
            }
            "else" => self.other(rest)?,
            "end" if rest.is_empty() => {
                let block = self.blocks.pop().ok_or("there is nothing to end")?;
                self.out.push_str(block.end);
                if block.has_dot {
                    self.dots.pop();
                }
            }
            "define" | "template" | "block" | "break" | "continue" => return Err(format!("{word} is not supported")),
            _ => {
                let value = action::pipeline(code, self.dot())?;
                let function = match self.kind {
                    Kind::Text => "raw",
                    Kind::Html => self.place.pass_value_of_action().function(),
                };
                self.out.push_str(&format!("{{{{ {function}({value}) }}}}"));
            }
        }
        Ok(())
    }

    fn new_dot(&self, code: &str) -> Result<(String, String), String> {
        Ok((action::pipeline(code, self.dot())?, format!("d{}", self.blocks.len() + 1)))
    }

    fn open(&mut self, block: Block) -> Result<(), String> {
        if self.blocks.len() == DEEPEST {
            return Err("the blocks are too deep".to_owned());
        }
        self.blocks.push(block);
        Ok(())
    }

    fn other(&mut self, rest: &str) -> Result<(), String> {
        let condition = match rest.strip_prefix("if").filter(|code| code.starts_with([' ', '\t', '('])) {
            Some(code) => Some(action::pipeline(code, self.dot())?),
            None if rest.is_empty() => None,
            None => return Err("behind else stands nothing, or if".to_owned()),
        };
        let block = self.blocks.last_mut().ok_or("there is no if that this belongs to")?;
        match condition {
            _ if block.has_else => return Err("there has been an else already".to_owned()),
            Some(_) if block.branches == MOST_BRANCHES => {
                return Err(format!("an if has more than {MOST_BRANCHES} branches"));
            }
            Some(condition) if block.is_if => {
                block.branches += 1;
                self.out.push_str(&format!("{{% elif {condition} %}}"));
            }
            Some(_) => return Err("else if belongs to if only".to_owned()),
            None => {
                block.has_else = true;
                self.out.push_str("{% else %}");
                if block.has_dot {
                    // There is nothing that the dot could stand for: it is the one outside.
                    let outer = self.dots.len().checked_sub(2).map_or("d0".to_owned(), |i| self.dots[i].clone());
                    self.dots.pop();
                    self.dots.push(outer);
                }
            }
        }
        Ok(())
    }
}
