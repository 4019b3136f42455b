//! The names that there are: variables, and the fields that Countersign itself gives them.

use crate::policy::expression::lower::quoted;
use crate::policy::expression::tree::{Node, Variable};

/// Fields of a map that holds no others.
struct Shape {
    variable: Variable,
    path: &'static [&'static str],
    fields: &'static [&'static str],
    /// More fields, which are claims.
    claims: &'static [&'static str],
}

const SHAPES: [Shape; 6] = [
    shape(Variable::Object, &[], &["apiVersion", "kind", "metadata", "spec"], &[]),
    shape(Variable::Object, &["metadata"], &["namespace"], &["name", "labels", "annotations"]),
    shape(Variable::NamespaceObject, &[], &["metadata"], &[]),
    shape(Variable::NamespaceObject, &["metadata"], &["name", "labels"], &[]),
    shape(Variable::Request, &[], &["userInfo", "namespace"], &[]),
    shape(Variable::Request, &["userInfo"], &["username", "uid", "groups"], &[]),
];

const fn shape(
    variable: Variable,
    path: &'static [&'static str],
    fields: &'static [&'static str],
    claims: &'static [&'static str],
) -> Shape {
    Shape { variable, path, fields, claims }
}

/// The variable of a name.
pub(super) fn variable(name: &str) -> Option<Variable> {
    Some(match name {
        "object" => Variable::Object,
        "namespaceObject" => Variable::NamespaceObject,
        "request" => Variable::Request,
        "time" => Variable::Time,
        "claims" => Variable::Claims,
        _ => return None,
    })
}

/// The names of all variables.
pub(super) fn variables(trusts: bool) -> &'static str {
    if trusts { "object, namespaceObject, request, time, claims" } else { "object, namespaceObject, request, time" }
}

/// Whether there may be such a field: a misspelt one would fail each time, and `has()` of it would always be false.
pub(super) fn check(of: &Node, field: &str, trusts: bool) -> Result<(), String> {
    let mut path = vec![];
    let Some(variable) = path_of(of, &mut path) else { return Ok(()) };
    let Some(shape) = SHAPES.iter().find(|s| s.variable == variable && s.path == path) else { return Ok(()) };
    if shape.fields.contains(&field) || (trusts && shape.claims.contains(&field)) {
        return Ok(());
    }
    if shape.claims.contains(&field) {
        let all = shape.claims.join(", ");
        return Err(format!(
            "{all} are whatever the creator wrote: claims; set trustClaims: true on the rule to use them"
        ));
    }
    let mut known = shape.fields.to_vec();
    known.extend(shape.claims.iter().filter(|_| trusts));
    Err(format!("there is no field {}; there is {}", quoted(field), known.join(", ")))
}

/// The variable and the fields that lead to a node.
fn path_of<'n>(node: &'n Node, path: &mut Vec<&'n str>) -> Option<Variable> {
    match node {
        Node::Variable(variable) => Some(*variable),
        Node::Select(of, field) => {
            let variable = path_of(of, path)?;
            path.push(field);
            Some(variable)
        }
        _ => None,
    }
}
