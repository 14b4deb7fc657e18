//! The template engine of one source: compiled once, rendered with fuel and an output limit.
//!
//! HTML templates escape what they print, everything else is plain. What is missing renders empty. A template
//! cannot reach files, the clock or other templates.

use super::plain::clean_html;
use super::problem::Layer;
use super::scan::{self, Token};
use super::times::Zones;
use super::value::{self, printed};
use super::{filters, html, phone};
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// Instructions of one rendering; a long description takes a few hundred.
const FUEL: u64 = 50_000;
/// Output of one rendering. Freshdesk's own limit is not public; nobody reads more.
const OUTPUT_MAX_BYTES: usize = 256 * 1024;
/// A condition is compiled as a template that prints something when it holds.
const CONDITION_HEAD: &str = "{% if (";
const CONDITION_TAIL: &str = ") %}1{% endif %}";

/// What templates see.
pub(super) const NAMES: [&str; 10] =
    ["event", "source", "received_at", "header", "query", "kind", "requester", "found", "answers", "index"];
/// Functions of the engine that stay.
const FUNCTIONS: [&str; 2] = ["range", "dict"];
const HELP_NAMES: &str = "templates see: event, source, received_at, header, query, kind, requester, found";

/// A compiled template or condition.
#[derive(Debug)]
pub(super) struct Template {
    /// `ticket.subject`, for reasons.
    pub key: String,
    /// Name in the engine; what has no code in it is not there.
    name: String,
    fixed: Option<String>,
    is_html: bool,
    /// Dotted names it reads, for telling what was missing.
    references: Vec<String>,
}

/// A mistake in a template, with the byte it is at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub what: String,
    pub help: Option<String>,
    pub offset: Option<usize>,
}

impl Fault {
    fn new(what: impl Into<String>, offset: Option<usize>) -> Fault {
        Fault { what: what.into(), help: None, offset }
    }
}

/// What may be written where.
pub(super) struct Rules<'a> {
    /// Names of the source's finders, for `found.x`.
    pub finders: &'a BTreeSet<String>,
}

/// One environment with all templates of a source.
pub(super) struct Engine {
    env: Environment<'static>,
}

impl Engine {
    pub fn new(country: Option<&'static phone::Country>, zones: Zones) -> Engine {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Chainable);
        env.set_fuel(Some(FUEL));
        env.set_debug(false);
        env.set_auto_escape_callback(|name| {
            if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
        });
        env.set_formatter(|out, state, value| {
            let text = printed(value);
            let is_escaped = value.is_safe() || matches!(state.auto_escape(), AutoEscape::None);
            let text = if is_escaped { text } else { html::escape(&text) };
            out.write_str(&text).map_err(Error::from)
        });
        // `debug` prints everything it can see; `namespace` lets a loop double a text until memory is full.
        for function in ["debug", "namespace", "lipsum", "cycler", "joiner"] {
            env.remove_global(function);
        }
        filters::register(&mut env, country, &Arc::new(zones));
        Engine { env }
    }

    /// Compiles a template of `layer`'s `key`.
    pub fn add(
        &mut self,
        (layer, key): (Layer, &str),
        text: &str,
        rules: &Rules<'_>,
    ) -> Result<Template, Fault> {
        let is_html = key.ends_with("ticket.description") || key.ends_with("note.body");
        if !text.contains('{') {
            let fixed = Some(text.to_owned());
            return Ok(Template {
                key: key.to_owned(),
                name: String::new(),
                fixed,
                is_html,
                references: Vec::new(),
            });
        }
        let name = format!("{layer:?} {key}{}", if is_html { ".html" } else { "" });
        self.insert((name, key, text.to_owned()), (text, scan::template(text)), rules)
    }

    /// Compiles a bare expression whose truth decides.
    pub fn add_condition(
        &mut self,
        (layer, key): (Layer, &str),
        text: &str,
        rules: &Rules<'_>,
    ) -> Result<Template, Fault> {
        self.check_expression(text)?;
        let name = format!("{layer:?} {key}");
        let wrapped = format!("{CONDITION_HEAD}{text}{CONDITION_TAIL}");
        self.insert((name, key, wrapped), (text, scan::expression(text)), rules)
    }

    /// Checks a bare expression.
    pub fn check_expression(&self, text: &str) -> Result<(), Fault> {
        if let Some(offset) = scan::lone_equals(text) {
            return Err(Fault::new("one = assigns nothing; compare with ==", Some(offset)));
        }
        self.env.compile_expression(text).map(|_| ()).map_err(|error| fault(&error, text))
    }

    fn insert(
        &mut self,
        (name, key, compiled): (String, &str, String),
        (text, tokens): (&str, Vec<Token<'_>>),
        rules: &Rules<'_>,
    ) -> Result<Template, Fault> {
        self.env.add_template_owned(name.clone(), compiled).map_err(|error| fault(&error, text))?;
        let template = self.env.get_template(&name).map_err(|error| fault(&error, text))?;
        let names: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
        let references: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
        check_names(&names, &references, &tokens, rules)?;
        self.check_filters(&tokens)?;
        let references = references.into_iter().filter(|reference| reference.contains('.')).collect();
        let is_html = name.ends_with(".html");
        Ok(Template { key: key.to_owned(), name, fixed: None, is_html, references })
    }

    /// The engine finds an unknown filter or test when it renders; an admin should not have to wait for that.
    fn check_filters(&self, tokens: &[Token<'_>]) -> Result<(), Fault> {
        let (filters, tests) = scan::filters_and_tests(tokens);
        let is_unknown = |expression: String, kind: ErrorKind| {
            let answer = self.env.compile_expression_owned(expression).and_then(|e| e.eval(Value::UNDEFINED));
            answer.is_err_and(|error| error.kind() == kind)
        };
        for filter in filters {
            if is_unknown(format!("''|{}", filter.text), ErrorKind::UnknownFilter) {
                let what = format!("uses the filter \"{}\", which does not exist", filter.text);
                let help = "filters: default, truncate(n), nl2br, phone(\"CO\"), join, upper, lower, tojson, text, \
                            first_line, facts, fold, rating, stack, transcript, without, local, utc, link, replace, trim, int, first, last, length";
                return Err(Fault { what, help: Some(help.to_owned()), offset: Some(filter.offset) });
            }
        }
        for test in tests {
            if is_unknown(format!("'' is {}", test.text), ErrorKind::UnknownTest) {
                let what = format!("uses the test \"is {}\", which does not exist", test.text);
                return Err(Fault::new(what, Some(test.offset)));
            }
        }
        Ok(())
    }

    /// Renders. HTML over the limit is cut with a notice; anything else over it is an error. The reason tells
    /// no customer text.
    pub fn render(&self, template: &Template, context: &Value) -> Result<String, String> {
        self.render_with_file(template, context).map(|(text, _)| text)
    }

    /// As `render`, with the whole of a transcript that is cut in the text.
    pub fn render_with_file(
        &self,
        template: &Template,
        context: &Value,
    ) -> Result<(String, Option<String>), String> {
        if let Some(fixed) = &template.fixed {
            return Ok((fixed.clone(), None));
        }
        let compiled = self.env.get_template(&template.name).map_err(|error| reason(&error))?;
        let mut output = Capped::default();
        let result = compiled.render_captured_to(context.clone(), &mut output);
        let result = result.map(|captured| captured.state().get_temp(filters::WHOLE));
        let whole = result.as_ref().ok().and_then(|temp| temp.as_ref()?.as_str().map(str::to_owned));
        let text = String::from_utf8_lossy(&output.bytes);
        let text = match result {
            _ if output.is_full && template.is_html => {
                let notice = format!("[cut here: longer than {} KiB]", OUTPUT_MAX_BYTES / 1024);
                html::cut(&clean_html(&text), OUTPUT_MAX_BYTES, &notice)
            }
            _ if output.is_full => return Err(format!("rendered more than {} KiB", OUTPUT_MAX_BYTES / 1024)),
            Err(error) => return Err(reason(&error)),
            Ok(_) if template.is_html => clean_html(&text).trim().to_owned(),
            Ok(_) => text.into_owned(),
        };
        Ok((text, whole))
    }

    /// Does the condition hold?
    pub fn holds(&self, condition: &Template, context: &Value) -> Result<bool, String> {
        self.render(condition, context).map(|text| !text.is_empty())
    }

    /// The names a condition reads, as it writes them: `event.title`, `kind`.
    pub fn names_in(&self, condition: &Template) -> Vec<String> {
        let Ok(compiled) = self.env.get_template(&condition.name) else { return Vec::new() };
        let mut names: Vec<String> = compiled.undeclared_variables(true).into_iter().collect();
        names.sort_unstable();
        names
    }

    /// A condition as it was written.
    pub fn condition_text(&self, condition: &Template) -> String {
        let Ok(compiled) = self.env.get_template(&condition.name) else { return String::new() };
        let text = compiled.source().strip_prefix(CONDITION_HEAD);
        text.and_then(|text| text.strip_suffix(CONDITION_TAIL)).unwrap_or_default().to_owned()
    }

    /// The value of a bare expression that was checked before.
    pub fn evaluate(&self, expression: &str, context: &Value) -> Result<Value, String> {
        let compiled = self.env.compile_expression(expression).map_err(|error| reason(&error))?;
        compiled.eval(context.clone()).map_err(|error| reason(&error))
    }
}

impl Template {
    /// The names it reads that have no value in `context`.
    pub fn missing(&self, context: &Value) -> Vec<String> {
        let is_missing = |reference: &&String| {
            let found =
                reference.split('.').fold(context.clone(), |value, name| value::attribute(&value, name));
            found.is_undefined() || found.is_none()
        };
        self.references.iter().filter(is_missing).cloned().collect()
    }

    /// Does it read this name?
    pub fn reads(&self, name: &str) -> bool {
        self.references.iter().any(|reference| reference.split('.').next() == Some(name))
    }
}

#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = OUTPUT_MAX_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.is_full = true;
            return Err(io::Error::other("full"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_names(
    names: &BTreeSet<String>,
    references: &BTreeSet<String>,
    tokens: &[Token<'_>],
    rules: &Rules<'_>,
) -> Result<(), Fault> {
    let place = |name: &str| tokens.iter().find(|token| token.text == name).map(|token| token.offset);
    let known = |name: &&String| {
        NAMES.contains(&name.as_str()) || FUNCTIONS.contains(&name.as_str()) || rules.finders.contains(*name)
    };
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let what = format!("uses \"{unknown}\", which does not exist");
        return Err(Fault { what, help: Some(HELP_NAMES.to_owned()), offset: place(unknown) });
    }
    for reference in references {
        let mut parts = reference.split('.');
        let (root, name) = (parts.next().unwrap_or_default(), parts.next());
        let Some(name) = name else { continue };
        let allowed: Vec<&str> = match root {
            "found" => rules.finders.iter().map(String::as_str).collect(),
            "requester" => vec!["name", "email", "phone", "external_id"],
            "source" => vec!["name"],
            _ => continue,
        };
        if !allowed.contains(&name) {
            let what = format!("uses \"{root}.{name}\", which does not exist");
            return Err(Fault {
                what,
                help: Some(format!("{root} has: {}", allowed.join(", "))),
                offset: place(name),
            });
        }
    }
    Ok(())
}

/// A mistake of syntax as an admin reads it: `expected }}`.
fn fault(error: &Error, text: &str) -> Fault {
    let detail = error.detail().unwrap_or("syntax error");
    let detail = detail.replace("end of variable block", "}}").replace("end of block", "%}");
    let what = match detail.split_once(", expected ") {
        Some(("unexpected end of input", _)) => {
            "ends too early: a }}, %} or {% end… %} is missing".to_owned()
        }
        Some((_, expected)) => format!("expected {expected}"),
        None => detail,
    };
    let help = (text.contains("&&") || text.contains("||")).then(|| "write and, or, not".to_owned());
    Fault { what, help, offset: error.range().map(|range| range.start) }
}

/// Why rendering failed, without the values it failed on.
fn reason(error: &Error) -> String {
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    match error.kind() {
        ErrorKind::OutOfFuel => "does too much work".to_owned(),
        ErrorKind::MissingArgument
        | ErrorKind::TooManyArguments
        | ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod => format!("{error}", error = error.kind()) + &line,
        kind => format!("{kind}{line}"),
    }
}

#[cfg(test)]
mod tests;
