//! Evaluation: a walk over the tree, in which each node takes a step.

use crate::policy::expression::Environment;
use crate::policy::expression::item::{Item, Kind, List, Map};
use crate::policy::expression::meter::{Budget, Failure, Meter};
use crate::policy::expression::operators::{self, OUT_OF_RANGE};
use crate::policy::expression::tree::{Each, Macro, Node};

type Answer<'e> = Result<Item<'e>, Failure<'e>>;

/// Steps of a pattern for each byte: the worst pattern of the size that is allowed takes some 170 ns.
const STEPS_PER_MATCHED_BYTE: u64 = 1;

/// One evaluation.
pub(super) struct Run<'e> {
    environment: &'e Environment<'e>,
    locals: Vec<Item<'e>>,
    meter: Meter,
}

impl<'e> Run<'e> {
    /// Evaluates an expression, at the expense of a budget.
    pub(super) fn of(root: &'e Node, environment: &'e Environment<'e>, budget: &mut Budget) -> Answer<'e> {
        let mut run = Self { environment, locals: vec![], meter: Meter::new(budget) };
        let answer = run.item(root);
        run.meter.settle(budget);
        answer
    }

    /// The value of a node. Recursion is bounded, as the depth of the tree is.
    fn item(&mut self, node: &'e Node) -> Answer<'e> {
        self.meter.take(1)?;
        Ok(match node {
            Node::Null => Item::Null,
            Node::Bool(b) => Item::Bool(*b),
            Node::Int(i) => Item::Int(*i),
            Node::Uint(u) => Item::Uint(*u),
            Node::Double(d) => Item::Double(*d),
            Node::Text(text) => Item::from(&**text),
            Node::Time(time) => Item::Time(*time),
            Node::Span(span) => Item::Span(*span),
            Node::Variable(variable) => self.environment.get(*variable)?,
            Node::Local(local) => self.locals.get(*local).cloned().ok_or(Failure::Said("a name is out of reach"))?,
            Node::Select(of, field) => self.select(of, field)?.ok_or(Failure::NoField(Some(field)))?,
            Node::Has(of, field) => Item::Bool(self.select(of, field)?.is_some()),
            Node::Index(both) => self.index(both)?,
            Node::List(items) => self.list(items)?,
            Node::Map(entries) => self.map(entries)?,
            Node::Not(one) => Item::Bool(!self.truth("!", one)?),
            Node::Negate(one) => self.negate(one)?,
            Node::Both(and, both) => Item::Bool(self.both(*and, both)?),
            Node::Choose(parts) => {
                let [condition, yes, no] = &**parts;
                return if self.truth("?:", condition)? { self.item(yes) } else { self.item(no) };
            }
            Node::Compare(comparison, both) => {
                let (a, b) = self.pair(both)?;
                Item::Bool(operators::compare(*comparison, &a, &b, &mut self.meter)?)
            }
            Node::Arithmetic(arithmetic, both) => {
                let (a, b) = self.pair(both)?;
                arithmetic.apply(a, b, &mut self.meter)?
            }
            Node::Call(function, args) => {
                let args = args.iter().map(|arg| self.item(arg)).collect::<Result<Vec<_>, _>>()?;
                function.call(&args, &mut self.meter)?
            }
            Node::Matches(text, pattern) => match self.item(text)? {
                Item::Text(text) => {
                    self.meter.take(STEPS_PER_MATCHED_BYTE * text.as_str().len() as u64)?;
                    Item::Bool(pattern.is_match(text.as_str()))
                }
                other => return Err(Failure::Kinds("matches", other.kind(), None)),
            },
            Node::Part(part, of, zone) => {
                let of = self.item(of)?;
                Item::Int(part.of(&of, zone)?)
            }
            Node::Each(each) => self.each(each)?,
        })
    }

    fn pair(&mut self, both: &'e [Node; 2]) -> Result<(Item<'e>, Item<'e>), Failure<'e>> {
        let [a, b] = both;
        Ok((self.item(a)?, self.item(b)?))
    }

    fn truth(&mut self, of: &'static str, node: &'e Node) -> Result<bool, Failure<'e>> {
        match self.item(node)? {
            Item::Bool(truth) => Ok(truth),
            other => Err(Failure::Kinds(of, other.kind(), None)),
        }
    }

    /// `&&` and `||`: an operand that decides does so whatever is wrong with the other, on either side.
    fn both(&mut self, and: bool, both: &'e [Node; 2]) -> Result<bool, Failure<'e>> {
        let sign = if and { "&&" } else { "||" };
        let [a, b] = both;
        let a = match self.truth(sign, a) {
            Ok(a) if a != and => return Ok(a),
            Err(failure) if !failure.absorbed() => return Err(failure),
            a => a,
        };
        match (a, self.truth(sign, b)?) {
            (_, b) if b != and => Ok(b),
            (a, _) => a,
        }
    }

    fn select(&mut self, of: &'e Node, field: &'e str) -> Result<Option<Item<'e>>, Failure<'e>> {
        match self.item(of)? {
            Item::Map(map) => {
                self.meter.search(&map, field.len())?;
                Ok(map.get(field))
            }
            other => Err(Failure::NoFields(other.kind())),
        }
    }

    fn index(&mut self, both: &'e [Node; 2]) -> Answer<'e> {
        let (of, key) = self.pair(both)?;
        match (of, key) {
            (Item::List(list), key) => {
                let index = match key {
                    Item::Int(i) => usize::try_from(i).ok(),
                    Item::Uint(u) => usize::try_from(u).ok(),
                    Item::Double(d) if d.fract() == 0.0 && (0.0..1e15).contains(&d) => Some(d as usize),
                    other => return Err(Failure::Kinds("[]", Kind::List, Some(other.kind()))),
                };
                index.and_then(|index| list.get(index)).ok_or(Failure::NoItem)
            }
            (Item::Map(map), key) if key.kind().is_key() => {
                self.meter.search(&map, key.bytes())?;
                map.find(&key).ok_or(Failure::NoField(None))
            }
            (of, key) => Err(Failure::Kinds("[]", of.kind(), Some(key.kind()))),
        }
    }

    fn list(&mut self, items: &'e [Node]) -> Answer<'e> {
        self.meter.hold(2 * size_of_val(items))?;
        let items = items.iter().map(|item| self.item(item)).collect::<Result<Vec<_>, _>>()?;
        Ok(Item::List(List::Made(items.into())))
    }

    fn map(&mut self, entries: &'e [[Node; 2]]) -> Answer<'e> {
        self.meter.hold(2 * size_of_val(entries))?;
        let mut made: Vec<(Item<'e>, Item<'e>)> = Vec::with_capacity(entries.len());
        for both in entries {
            let (key, value) = self.pair(both)?;
            if !key.kind().is_key() || matches!(key, Item::Double(_)) {
                return Err(Failure::Kinds("a key", key.kind(), None));
            }
            self.meter.take(made.len() as u64)?;
            self.meter.read(key.bytes().saturating_mul(made.len()))?;
            if made.iter().any(|(k, _)| k.compare(&key).is_some_and(std::cmp::Ordering::is_eq)) {
                return Err(Failure::Said("a map has a key twice"));
            }
            made.push((key, value));
        }
        Ok(Item::Map(Map::Made(made.into())))
    }

    fn negate(&mut self, one: &'e Node) -> Answer<'e> {
        match self.item(one)? {
            Item::Int(i) => i.checked_neg().map(Item::Int).ok_or(OUT_OF_RANGE),
            Item::Double(d) => Ok(Item::Double(-d)),
            other => Err(Failure::Kinds("-", other.kind(), None)),
        }
    }

    fn each(&mut self, each: &'e Each) -> Answer<'e> {
        let over: Box<dyn Iterator<Item = Item<'e>> + 'e> = match self.item(&each.over)? {
            Item::List(list) => Box::new(list.items()),
            Item::Map(map) => Box::new(map.entries().map(|(key, _)| key)),
            other => return Err(Failure::Kinds("a macro", other.kind(), None)),
        };
        let depth = self.locals.len();
        let answer = match each.what {
            Macro::All => self.quantify(each, over, false),
            Macro::Exists => self.quantify(each, over, true),
            Macro::ExistsOne => self.one(each, over),
            Macro::Collect => self.collect(each, over),
        };
        self.locals.truncate(depth);
        answer
    }

    /// Tests an item; true where there is no test.
    fn test(&mut self, each: &'e Each, item: Item<'e>) -> Result<bool, Failure<'e>> {
        self.locals.truncate(each.local);
        self.locals.push(item);
        each.test.as_ref().map_or(Ok(true), |test| self.truth("a macro's condition", test))
    }

    /// `all` and `exists`: an item that decides does so whatever is wrong with others.
    fn quantify(&mut self, each: &'e Each, over: impl Iterator<Item = Item<'e>>, decisive: bool) -> Answer<'e> {
        let mut failed = None;
        for item in over {
            match self.test(each, item) {
                Ok(found) if found == decisive => return Ok(Item::Bool(decisive)),
                Ok(_) => {}
                Err(failure) if failure.absorbed() => failed = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        failed.map_or(Ok(Item::Bool(!decisive)), Err)
    }

    fn one(&mut self, each: &'e Each, over: impl Iterator<Item = Item<'e>>) -> Answer<'e> {
        let mut found = 0_usize;
        for item in over {
            found += usize::from(self.test(each, item)?);
        }
        Ok(Item::Bool(found == 1))
    }

    fn collect(&mut self, each: &'e Each, over: impl Iterator<Item = Item<'e>>) -> Answer<'e> {
        let mut found = vec![];
        for item in over {
            if !self.test(each, item.clone())? {
                continue;
            }
            let result = each.result.as_ref().map_or(Ok(item), |result| self.item(result))?;
            // Growing doubles it, and sharing copies it.
            self.meter.hold(3 * size_of::<Item>())?;
            found.push(result);
        }
        Ok(Item::List(List::Made(found.into())))
    }
}
