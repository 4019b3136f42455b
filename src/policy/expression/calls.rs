//! Calls and macros: which function is meant, and whether its arguments can be bounded.

use crate::policy::expression::clock::{self, PARTS, Part};
use crate::policy::expression::functions::{Function, GLOBALS, METHODS};
use crate::policy::expression::item::Kind;
use crate::policy::expression::lower::{Lower, Lowered, at, quoted};
use crate::policy::expression::place::{Place, Wrong};
use crate::policy::expression::tree::{Each, Macro, Node};
use crate::policy::expression::{pattern, schema};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use jiff::tz::TimeZone;

/// Macros in all.
const MAX_MACROS: usize = 8;
/// Macros within macros.
const MAX_NESTED: usize = 2;
/// Patterns in all.
const MAX_PATTERNS: usize = 4;
/// Expanded by the parser, so that they are called only where their arguments are wrong.
const MACROS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "filter", "map"];

impl Lower {
    /// A call without a receiver.
    pub(super) fn global(&mut self, call: &IdedExpr, name: &str, args: &[IdedExpr]) -> Lowered {
        let wrong = |problem: String| at(call, problem);
        if name == "matches" {
            let [text, pattern] = args else {
                return Err(wrong("matches() takes a string and a pattern".into()));
            };
            return self.matches(Place::Node(call.id), text, pattern);
        }
        let Some((_, function)) = GLOBALS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = GLOBALS.iter().map(|(known, _)| *known).collect();
            let problem = format!("there is no function {}; there is has, matches, {}", quoted(name), known.join(", "));
            return Err(wrong(problem));
        };
        let [one] = args else { return Err(wrong(format!("{name}() takes one argument"))) };
        if let Expr::Literal(LiteralValue::String(text)) = &one.expr
            && let Some(constant) = constant(*function, text.inner())
        {
            return constant.map_err(wrong);
        }
        let one = self.argument(*function, name, one)?;
        Ok((Node::Call(*function, vec![one]), function.result()))
    }

    /// A call on a receiver.
    pub(super) fn method(&mut self, place: Place, target: &IdedExpr, name: &str, args: &[IdedExpr]) -> Lowered {
        let wrong = |problem: String| Wrong::new(place, problem);
        if name == "matches" {
            let [pattern] = args else { return Err(wrong("matches() takes a pattern".into())) };
            return self.matches(place, target, pattern);
        }
        if let Some((_, part)) = PARTS.iter().find(|(known, _)| *known == name) {
            return self.part(place, *part, name, target, args);
        }
        if MACROS.contains(&name) {
            return Err(wrong(format!("{name}() takes a name and a condition, as in list.{name}(x, x > 1)")));
        }
        let Some((_, function, takes)) = METHODS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = METHODS.iter().map(|(known, ..)| *known).chain(MACROS).collect();
            let problem =
                format!("there is no method {}; there is matches, {}, getHours …", quoted(name), known.join(", "));
            return Err(wrong(problem));
        };
        if args.len() != *takes {
            return Err(wrong(format!("{name}() takes {takes} argument(s), not {}", args.len())));
        }
        let all = std::iter::once(target).chain(args).map(|arg| self.argument(*function, name, arg));
        Ok((Node::Call(*function, all.collect::<Result<_, _>>()?), function.result()))
    }

    fn argument(&mut self, function: Function, name: &str, argument: &IdedExpr) -> Result<Node, Wrong> {
        match self.node(argument)? {
            (_, Some(kind)) if !function.takes(kind) => {
                Err(at(argument, format!("{name}() does not go with {}", kind.article())))
            }
            (node, _) => Ok(node),
        }
    }

    /// A pattern is compiled here and once: one that is not written out could be anything, and any size.
    fn matches(&mut self, place: Place, text: &IdedExpr, pattern: &IdedExpr) -> Lowered {
        let wrong = |problem: String| Wrong::new(place, problem);
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return Err(wrong("the pattern of matches() must be written out as a string".into()));
        };
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(wrong(format!("at most {MAX_PATTERNS} patterns are allowed")));
        }
        let pattern = pattern::compile(pattern.inner()).map_err(wrong)?;
        match self.node(text)? {
            (text, None | Some(Kind::Text)) => Ok((Node::Matches(Box::new(text), pattern), Some(Kind::Bool))),
            (_, Some(kind)) => Err(wrong(format!("matches() does not go with {}", kind.article()))),
        }
    }

    /// A zone is resolved here and once, for the same reason.
    fn part(&mut self, place: Place, part: Part, name: &str, target: &IdedExpr, args: &[IdedExpr]) -> Lowered {
        let wrong = |problem: String| Wrong::new(place, problem);
        let zone = match args {
            [] => TimeZone::UTC,
            [IdedExpr { expr: Expr::Literal(LiteralValue::String(zone)), .. }] => {
                let unknown =
                    || format!("there is no time zone {}; name one as Europe/Berlin or +02:00", quoted(zone.inner()));
                clock::zone(zone.inner()).ok_or_else(|| wrong(unknown()))?
            }
            [_] => return Err(wrong(format!("the time zone of {name}() must be written out as a string"))),
            _ => return Err(wrong(format!("{name}() takes at most a time zone"))),
        };
        let (target, kind) = self.node(target)?;
        match kind {
            None | Some(Kind::Time | Kind::Span) => Ok((Node::Part(part, Box::new(target), zone), Some(Kind::Int))),
            Some(kind) => Err(wrong(format!("{name}() is for timestamps, not for {}", kind.article()))),
        }
    }

    /// A macro, which the parser has expanded into a loop: recognised by what each turn does.
    pub(super) fn each(&mut self, call: &IdedExpr, comprehension: &ComprehensionExpr) -> Lowered {
        let wrong = |problem: String| Wrong::new(Place::Before(call.id), problem);
        let Some((what, test, result)) = turn(comprehension) else {
            return Err(wrong("this macro is not supported".into()));
        };
        let name = comprehension.iter_var.as_str();
        self.macros += 1;
        if self.macros > MAX_MACROS {
            return Err(wrong(format!("at most {MAX_MACROS} macros (all, exists, map …) are allowed")));
        }
        if self.names.len() == MAX_NESTED {
            return Err(wrong(format!("at most {MAX_NESTED} macros (all, exists, map …) may be nested")));
        }
        if schema::variable(name).is_some() {
            let problem = format!("{name:?} is a variable; call the items otherwise");
            return Err(Wrong::new(Place::After(call.id), problem));
        }
        let over = match self.node(&comprehension.iter_range)? {
            (over, None | Some(Kind::List | Kind::Map)) => over,
            (_, Some(kind)) => return Err(wrong(format!("a macro does not go with {}", kind.article()))),
        };
        let local = self.names.len();
        self.names.push(name.to_owned());
        let test = test.map(|test| self.truth(test, "a macro's condition")).transpose()?;
        let result = result.map(|result| self.plain(result)).transpose()?;
        self.names.pop();
        let kind = if what == Macro::Collect { Kind::List } else { Kind::Bool };
        Ok((Node::Each(Box::new(Each { over, what, local, test, result })), Some(kind)))
    }
}

/// A conversion of a literal is done here and once, and refused here.
fn constant(function: Function, text: &str) -> Option<Result<(Node, Option<Kind>), String>> {
    let wrong = |what: &str, example: &str| format!("{} is not a {what} such as {example:?}", quoted(text));
    match function {
        Function::ToTime => Some(match clock::timestamp(text) {
            Some(time) => Ok((Node::Time(time), Some(Kind::Time))),
            None => Err(wrong("timestamp", "2026-01-31T00:00:00Z")),
        }),
        Function::ToSpan => Some(match clock::duration(text) {
            Some(span) => Ok((Node::Span(span), Some(Kind::Span))),
            None => Err(wrong("duration", "1h30m")),
        }),
        _ => None,
    }
}

/// Which macro it is, its condition and its result.
fn turn(comprehension: &ComprehensionExpr) -> Option<(Macro, Option<&IdedExpr>, Option<&IdedExpr>)> {
    let Expr::Call(CallExpr { target: None, func_name, args }) = &comprehension.loop_step.expr else { return None };
    if comprehension.iter_var2.is_some() {
        return None;
    }
    match (func_name.as_str(), args.as_slice()) {
        (operators::LOGICAL_AND, [_, test]) => Some((Macro::All, Some(test), None)),
        (operators::LOGICAL_OR, [_, test]) => Some((Macro::Exists, Some(test), None)),
        (operators::ADD, [_, added]) => Some((Macro::Collect, None, Some(appended(added)?))),
        (operators::CONDITIONAL, [test, IdedExpr { expr: Expr::Call(step), .. }, _]) => match step.args.as_slice() {
            [_, IdedExpr { expr: Expr::Literal(_), .. }] => Some((Macro::ExistsOne, Some(test), None)),
            [_, added] => Some((Macro::Collect, Some(test), Some(appended(added)?))),
            _ => None,
        },
        _ => None,
    }
}

fn appended(added: &IdedExpr) -> Option<&IdedExpr> {
    match &added.expr {
        Expr::List(list) => list.elements.first(),
        _ => None,
    }
}
