//! From what the parser made to a tree that can be evaluated, or to what is wrong with it.

use crate::policy::expression::item::Kind;
use crate::policy::expression::operators::Arithmetic;
use crate::policy::expression::place::{Place, Wrong};
use crate::policy::expression::schema;
use crate::policy::expression::tree::{Comparison, Node, Variable};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, operators};

/// Operators, fields and calls within each other.
const MAX_TREE: usize = 64;

/// A node, and what it evaluates to, where that can be seen.
pub(super) type Lowered = Result<(Node, Option<Kind>), Wrong>;

/// Resolves every name of an expression.
pub(super) fn lower(parsed: &IdedExpr, trusts: bool) -> Lowered {
    Lower { trusts, names: vec![], depth: 0, macros: 0, patterns: 0 }.node(parsed)
}

/// The way through an expression.
pub(super) struct Lower {
    trusts: bool,
    /// The names that macros give to their items, the outermost first.
    pub names: Vec<String>,
    depth: usize,
    pub macros: usize,
    pub patterns: usize,
}

impl Lower {
    pub(super) fn node(&mut self, expression: &IdedExpr) -> Lowered {
        if self.depth == MAX_TREE {
            return Err(at(expression, format!("at most {MAX_TREE} operators, fields and calls may be nested")));
        }
        self.depth += 1;
        let lowered = self.unbounded(expression);
        self.depth -= 1;
        lowered
    }

    fn unbounded(&mut self, expression: &IdedExpr) -> Lowered {
        match &expression.expr {
            Expr::Literal(literal) => {
                literal_of(literal).ok_or_else(|| at(expression, "bytes are not supported; use a string"))
            }
            Expr::Ident(name) => self.name(name).map_err(|problem| at(expression, problem)),
            Expr::Select(select) => {
                let field = match &select.operand.expr {
                    _ if !select.test => Place::After(expression.id),
                    // has() stands where its call does, and what it asks for behind what it asks of.
                    Expr::Ident(_) | Expr::Select(_) => Place::Next(select.operand.id),
                    _ => Place::After(select.operand.id),
                };
                self.select(&select.operand, &select.field, select.test, field)
            }
            Expr::Call(call) => self.call(expression, call),
            Expr::Comprehension(comprehension) => self.each(expression, comprehension),
            Expr::List(list) if list.optional_indices.is_empty() => {
                let items = list.elements.iter().map(|item| self.plain(item)).collect::<Result<_, _>>()?;
                Ok((Node::List(items), Some(Kind::List)))
            }
            Expr::Map(map) => self.map(expression, map),
            Expr::Struct(_) => Err(at(expression, "messages cannot be made; make a map: {\"key\": value}")),
            Expr::List(_) | Expr::Unspecified => Err(at(expression, "it is not a CEL expression")),
        }
    }

    /// A node, whatever it evaluates to.
    pub(super) fn plain(&mut self, expression: &IdedExpr) -> Result<Node, Wrong> {
        self.node(expression).map(|(node, _)| node)
    }

    /// A node that is true or false, as far as can be seen.
    pub(super) fn truth(&mut self, expression: &IdedExpr, of: &str) -> Result<Node, Wrong> {
        match self.node(expression)? {
            (node, None | Some(Kind::Bool)) => Ok(node),
            (_, Some(kind)) => Err(at(expression, format!("{of} needs true or false, not {}", kind.article()))),
        }
    }

    fn name(&self, name: &str) -> Result<(Node, Option<Kind>), String> {
        if let Some(local) = self.names.iter().rposition(|n| n == name) {
            return Ok((Node::Local(local), None));
        }
        match schema::variable(name) {
            Some(Variable::Claims) if !self.trusts => {
                Err("claims are what the requester says; set trustClaims: true on the rule to use them".into())
            }
            Some(variable) => Ok((Node::Variable(variable), (variable == Variable::Time).then_some(Kind::Time))),
            None => {
                let known = schema::variables(self.trusts);
                Err(format!("there is no {}; there is {known}", quoted(name)))
            }
        }
    }

    fn select(&mut self, of: &IdedExpr, field: &str, test: bool, place: Place) -> Lowered {
        let (of, kind) = self.node(of)?;
        if let Some(kind) = kind.filter(|kind| *kind != Kind::Map) {
            return Err(Wrong::new(place, format!("{} has no fields, so no {}", kind.article(), quoted(field))));
        }
        schema::check(&of, field, self.trusts).map_err(|problem| Wrong::new(place, problem))?;
        Ok(if test {
            (Node::Has(Box::new(of), field.into()), Some(Kind::Bool))
        } else {
            (Node::Select(Box::new(of), field.into()), None)
        })
    }

    fn map(&mut self, expression: &IdedExpr, map: &MapExpr) -> Lowered {
        let mut entries = vec![];
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err(at(expression, "it is not a CEL expression"));
            };
            entries.push([self.plain(&entry.key)?, self.plain(&entry.value)?]);
        }
        Ok((Node::Map(entries), Some(Kind::Map)))
    }

    fn call(&mut self, expression: &IdedExpr, call: &CallExpr) -> Lowered {
        match (&call.target, call.func_name.as_str(), call.args.as_slice()) {
            (None, operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.truth(condition, "?:")?;
                let ((yes, a), (no, b)) = (self.node(yes)?, self.node(no)?);
                Ok((Node::Choose(Box::new([condition, yes, no])), a.filter(|_| a == b)))
            }
            (None, sign @ (operators::LOGICAL_AND | operators::LOGICAL_OR), [a, b]) => {
                let and = sign == operators::LOGICAL_AND;
                let of = if and { "&&" } else { "||" };
                let both = [self.truth(a, of)?, self.truth(b, of)?];
                Ok((Node::Both(and, Box::new(both)), Some(Kind::Bool)))
            }
            (None, operators::LOGICAL_NOT, [one]) => Ok((Node::Not(Box::new(self.truth(one, "!")?)), Some(Kind::Bool))),
            (None, operators::NEGATE, [one]) => {
                let (one, kind) = self.node(one)?;
                match kind {
                    None | Some(Kind::Int | Kind::Double) => Ok((Node::Negate(Box::new(one)), kind)),
                    Some(kind) => Err(at(expression, format!("- does not go with {}", kind.article()))),
                }
            }
            // A literal key is a field.
            (None, operators::INDEX, [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }]) => {
                self.select(of, field.inner(), false, Place::Node(expression.id))
            }
            (None, operators::INDEX, [of, key]) => {
                let ((of, one), (key, other)) = (self.node(of)?, self.node(key)?);
                let fits = match one {
                    None => true,
                    Some(Kind::List) => other.is_none_or(Kind::is_number),
                    Some(Kind::Map) => other.is_none_or(Kind::is_key),
                    Some(_) => false,
                };
                match fits {
                    true => Ok((Node::Index(Box::new([of, key])), None)),
                    false => Err(at(expression, format!("[] does not go with {}", kinds(one, other)))),
                }
            }
            (None, sign, [a, b]) if comparison(sign).is_some() || arithmetic(sign).is_some() => {
                self.infix(expression, sign, a, b)
            }
            (None, name, args) => self.global(expression, name, args),
            (Some(target), name, args) => self.method(Place::Before(expression.id), target, name, args),
        }
    }

    fn infix(&mut self, expression: &IdedExpr, sign: &str, a: &IdedExpr, b: &IdedExpr) -> Lowered {
        let ((a, one), (b, other)) = (self.node(a)?, self.node(b)?);
        let both = Box::new([a, b]);
        if let Some(comparison) = comparison(sign) {
            if !comparison.takes(one, other) {
                return Err(at(expression, clash(comparison, one, other)));
            }
            return Ok((Node::Compare(comparison, both), Some(Kind::Bool)));
        }
        let Some(arithmetic) = arithmetic(sign) else {
            return Err(at(expression, "it is not a CEL expression"));
        };
        let kind = match (one, other) {
            (Some(one), Some(other)) => Some(arithmetic.result(one, other).ok_or_else(|| {
                let (one, other) = (one.article(), other.article());
                at(expression, format!("{} does not go with {one} and {other}", arithmetic.sign()))
            })?),
            _ => None,
        };
        Ok((Node::Arithmetic(arithmetic, both), kind))
    }
}

/// What is wrong with a part of an expression itself.
pub(super) fn at(expression: &IdedExpr, problem: impl Into<String>) -> Wrong {
    Wrong::new(Place::Node(expression.id), problem)
}

/// The kinds that are known, in a sentence.
fn kinds(one: Option<Kind>, other: Option<Kind>) -> String {
    one.into_iter().chain(other).map(Kind::article).collect::<Vec<_>>().join(" and ")
}

fn clash(comparison: Comparison, one: Option<Kind>, other: Option<Kind>) -> String {
    let hint = match (comparison, other) {
        (Comparison::In, Some(Kind::Text)) => "; ask contains() of a string",
        (Comparison::Equal | Comparison::Unequal, _) => ", which are never the same",
        _ => "",
    };
    format!("{} does not go with {}{hint}", comparison.sign(), kinds(one, other))
}

/// None for bytes.
fn literal_of(literal: &LiteralValue) -> Option<(Node, Option<Kind>)> {
    let (node, kind) = match literal {
        LiteralValue::Null => (Node::Null, Kind::Null),
        LiteralValue::Boolean(b) => (Node::Bool(*b.inner()), Kind::Bool),
        LiteralValue::Int(i) => (Node::Int(*i.inner()), Kind::Int),
        LiteralValue::UInt(u) => (Node::Uint(*u.inner()), Kind::Uint),
        LiteralValue::Double(d) => (Node::Double(*d.inner()), Kind::Double),
        LiteralValue::String(s) => (Node::Text(s.inner().into()), Kind::Text),
        LiteralValue::Bytes(_) => return None,
    };
    Some((node, Some(kind)))
}

fn comparison(sign: &str) -> Option<Comparison> {
    Some(match sign {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::Unequal,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        operators::IN => Comparison::In,
        _ => return None,
    })
}

fn arithmetic(sign: &str) -> Option<Arithmetic> {
    Some(match sign {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Modulo,
        _ => return None,
    })
}

/// A name as a message shows it.
pub(super) fn quoted(name: &str) -> String {
    let short: String = name.chars().take(63).collect();
    format!("{short:?}")
}
