//! What an expression may be made of, so that its work is bounded before it is evaluated.
//!
//! Refused: unknown variables and functions; a loop inside a loop, in its body or in what it runs
//! over, which multiplies or doubles; a loop over what was computed; `arguments` and `labels` in the
//! body of a loop over values of the call, where each step could pass over all of them again;
//! joining by `+` so often that the pieces add up; and whatever [`COST_MAX`] says is too much.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use crate::policy::field::Field;

/// Most passes over all arguments, or steps for each of their values, of one expression.
pub(super) const COST_MAX: usize = 64;
const COPY_COST: usize = 8;
/// Most additions: each may join texts or lists, and a chain copies its beginning again and again.
const ADDITIONS_MAX: usize = 8;
/// Deepest tree: evaluating goes down it on the stack.
const DEPTH_MAX: usize = 64;

/// Why an expression that parses is refused all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::policy) enum Refused {
    #[error(
        "{0:?} is no variable: there are tool, agent, action_hint, run, model, arguments and labels"
    )]
    Variable(Box<str>),
    #[error(
        "the function {0:?} cannot be used; there are size, contains, startsWith, endsWith, has, int, uint, double, string, all, exists, exists_one, filter and map"
    )]
    Function(Box<str>),
    #[error("a loop must not lie in another, nor run over the result of another")]
    NestedLoop,
    #[error("a loop must run over a field of arguments or labels, or over a list of constants")]
    LoopOver,
    #[error(
        "{0:?} cannot be used inside a loop over values of the call: compare with constants, or with tool, agent, action_hint, run or model"
    )]
    VariableInLoop(Box<str>),
    #[error("a loop over values of the call must not make a list or a map of each")]
    ListOfLists,
    #[error("has more than {ADDITIONS_MAX} additions")]
    Additions,
    #[error("would be too much work over large arguments: use fewer fields, or shorter loops")]
    Cost,
    #[error("is nested too deeply")]
    Depth,
    #[error("makes a structure, which is of no use here")]
    Structure,
    #[error("must be true or false, and what it makes is never either")]
    NotBool,
}

const TEXTS: &[&str] = &["tool", "agent", "action_hint", "run", "model"];
/// Those whose size depends on the call.
const LARGE: &[&str] = &["arguments", "labels"];
/// What makes true or false.
const PREDICATES: &[&str] = &[
    "_&&_",
    "_||_",
    "!_",
    "_==_",
    "_!=_",
    "_>=_",
    "_<=_",
    "_>_",
    "_<_",
    "@in",
    "contains",
    "startsWith",
    "endsWith",
    "@not_strictly_false",
];
/// What makes neither.
const OTHERS: &[&str] = &[
    "_-_", "_+_", "_*_", "_/_", "_%_", "-_", "size", "int", "uint", "double", "string",
];
/// What hands on one of its operands.
const CHOICES: &[&str] = &["_?_:_", "_[_]"];

/// Inside a loop: its variables, and what they stand for.
#[derive(Clone, Copy)]
struct Loop<'a> {
    item: &'a str,
    second: Option<&'a str>,
    result: &'a str,
    /// It runs over values of the call, of which there may be many.
    over_call: bool,
}

#[derive(Default)]
struct Walk {
    additions: usize,
    reads: Vec<Field>,
}

/// The fields it reads, if it may be evaluated at all.
pub(super) fn check(tree: &IdedExpr) -> Result<Vec<Field>, Refused> {
    let mut walk = Walk::default();
    let cost = walk.visit(tree, None, 0)?;
    if walk.additions > ADDITIONS_MAX {
        return Err(Refused::Additions);
    }
    if cost.saturating_mul(1 + walk.additions) > COST_MAX {
        return Err(Refused::Cost);
    }
    if never_bool(tree) {
        return Err(Refused::NotBool);
    }
    walk.reads.dedup();
    Ok(walk.reads)
}

fn never_bool(tree: &IdedExpr) -> bool {
    match &tree.expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::Call(call) => OTHERS.contains(&call.func_name.as_str()),
        Expr::Ident(name) => TEXTS.contains(&name.as_str()) || name == "labels",
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => true,
        Expr::Comprehension(_) | Expr::Select(_) => false,
    }
}

impl Walk {
    /// What evaluating it costs.
    fn visit(
        &mut self,
        tree: &IdedExpr,
        inside: Option<Loop<'_>>,
        depth: usize,
    ) -> Result<usize, Refused> {
        if depth == DEPTH_MAX {
            return Err(Refused::Depth);
        }
        // Each step of a loop over the call is paid for by itself.
        let step = usize::from(inside.is_some_and(|inside| inside.over_call));
        let cost = match &tree.expr {
            Expr::Literal(_) => 0,
            Expr::Ident(name) => self.variable(tree, name, inside)?,
            Expr::Select(select) => {
                // What is only asked for its presence need not be there.
                let read = if select.test { &select.operand } else { tree };
                self.note(read);
                let before = self.reads.len();
                let cost = self.visit(&select.operand, inside, depth + 1)?;
                self.reads.truncate(before);
                cost
            }
            Expr::Call(call) => self.call(tree, call, inside, depth)?,
            Expr::List(list) => self
                .all(&list.elements, inside, depth)?
                .saturating_mul(copied(inside)),
            Expr::Map(map) => {
                let mut cost = 0_usize;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(Refused::Structure);
                    };
                    cost += self.visit(&entry.key, inside, depth + 1)?;
                    cost += self.visit(&entry.value, inside, depth + 1)?;
                }
                cost.saturating_mul(copied(inside))
            }
            Expr::Comprehension(comprehension) => {
                if inside.is_some() {
                    return Err(Refused::NestedLoop);
                }
                self.comprehension(comprehension, depth)?
            }
            Expr::Struct(_) | Expr::Unspecified => return Err(Refused::Structure),
        };
        Ok(cost.saturating_add(step))
    }

    fn all(
        &mut self,
        trees: &[IdedExpr],
        inside: Option<Loop<'_>>,
        depth: usize,
    ) -> Result<usize, Refused> {
        trees.iter().try_fold(0_usize, |cost, tree| {
            Ok(cost.saturating_add(self.visit(tree, inside, depth + 1)?))
        })
    }

    fn variable(
        &mut self,
        tree: &IdedExpr,
        name: &str,
        inside: Option<Loop<'_>>,
    ) -> Result<usize, Refused> {
        if let Some(own) = inside {
            if name == own.item || own.second == Some(name) || name == own.result {
                return Ok(usize::from(own.over_call && name != own.result));
            }
            if own.over_call && LARGE.contains(&name) {
                return Err(Refused::VariableInLoop(name.into()));
            }
        }
        if TEXTS.contains(&name) {
            self.note(tree);
            return Ok(0);
        }
        if LARGE.contains(&name) {
            self.note(tree);
            return Ok(1);
        }
        Err(Refused::Variable(name.into()))
    }

    fn call(
        &mut self,
        tree: &IdedExpr,
        call: &CallExpr,
        inside: Option<Loop<'_>>,
        depth: usize,
    ) -> Result<usize, Refused> {
        let name = call.func_name.as_str();
        if ![PREDICATES, OTHERS, CHOICES].concat().contains(&name) {
            return Err(Refused::Function(name.into()));
        }
        // The macros that make lists add to their own result, which costs no copy.
        let own = |tree: &IdedExpr| matches!((&tree.expr, inside), (Expr::Ident(name), Some(inside)) if name == inside.result);
        if name == "_+_" && call.args.iter().any(own) {
            if inside.is_some_and(|inside| inside.over_call) && call.args.iter().any(keeps_lists) {
                return Err(Refused::ListOfLists);
            }
        } else if name == "_+_" {
            self.additions += 1;
        }
        let indexed = name == "_[_]" && field(tree).is_some();
        if indexed {
            self.note(tree);
        }
        let before = self.reads.len();
        let mut cost = self.all(&call.args, inside, depth)?;
        if let Some(target) = &call.target {
            cost = cost.saturating_add(self.visit(target, inside, depth + 1)?);
        }
        if indexed {
            self.reads.truncate(before);
        }
        Ok(cost)
    }

    fn comprehension(&mut self, of: &ComprehensionExpr, depth: usize) -> Result<usize, Refused> {
        let constant = |item: &IdedExpr| matches!(item.expr, Expr::Literal(_));
        let (over_call, times) = if let Expr::List(list) = &of.iter_range.expr
            && list.elements.iter().all(constant)
        {
            (false, list.elements.len())
        } else if matches!(of.iter_range.expr, Expr::Comprehension(_)) {
            return Err(Refused::NestedLoop);
        } else if field(&of.iter_range).is_some() {
            (true, 1)
        } else {
            return Err(Refused::LoopOver);
        };
        let inside = Some(Loop {
            item: &of.iter_var,
            second: of.iter_var2.as_deref(),
            result: &of.accu_var,
            over_call,
        });
        let range = self.visit(&of.iter_range, None, depth + 1)?;
        let start = self.visit(&of.accu_init, None, depth + 1)?;
        let body = self
            .visit(&of.loop_cond, inside, depth + 1)?
            .saturating_add(self.visit(&of.loop_step, inside, depth + 1)?);
        // Once, after the last step: only what the macros make.
        let result = self.visit(&of.result, inside, depth + 1)?;
        Ok(body
            .saturating_mul(times)
            .saturating_add(range)
            .saturating_add(start)
            .saturating_add(result))
    }

    fn note(&mut self, tree: &IdedExpr) {
        self.reads
            .extend(field(tree).filter(|field| !self.reads.contains(field)));
    }
}

/// What a value put into a list or a map costs more than one that is looked at: it is copied.
fn copied(inside: Option<Loop<'_>>) -> usize {
    // Over values of the call each is copied at most once: see [`keeps_lists`].
    if inside.is_some_and(|inside| inside.over_call) {
        1
    } else {
        COPY_COST
    }
}

/// Whether what a loop adds to its result, `[value]`, may be larger than what it was made of.
fn keeps_lists(added: &IdedExpr) -> bool {
    match &added.expr {
        Expr::List(list) => list.elements.len() > 1 || list.elements.iter().any(makes_lists),
        Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Unspecified => false,
    }
}

fn makes_lists(tree: &IdedExpr) -> bool {
    match &tree.expr {
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
        Expr::Call(call) => {
            call.args.iter().any(makes_lists) || call.target.as_deref().is_some_and(makes_lists)
        }
        Expr::Select(select) => makes_lists(&select.operand),
        Expr::Comprehension(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => false,
    }
}

/// The field of a call that it names, if it names one.
fn field(tree: &IdedExpr) -> Option<Field> {
    let mut steps: Vec<Box<str>> = Vec::new();
    let mut tree = tree;
    let name = loop {
        match &tree.expr {
            Expr::Ident(name) => break name.as_str(),
            Expr::Select(select) if !select.test => {
                steps.push(select.field.as_str().into());
                tree = &select.operand;
            }
            Expr::Call(call) if call.func_name == "_[_]" => {
                let [of, index] = call.args.as_slice() else {
                    return None;
                };
                let Expr::Literal(index) = &index.expr else {
                    return None;
                };
                steps.push(match index {
                    LiteralValue::String(key) => key.inner().into(),
                    LiteralValue::Int(at) => at.inner().to_string().into(),
                    LiteralValue::Boolean(_)
                    | LiteralValue::Bytes(_)
                    | LiteralValue::Double(_)
                    | LiteralValue::Null
                    | LiteralValue::UInt(_) => return None,
                });
                tree = of;
            }
            Expr::Call(_)
            | Expr::Comprehension(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Select(_)
            | Expr::Struct(_)
            | Expr::Unspecified => return None,
        }
    };
    steps.reverse();
    Some(match (name, steps.len()) {
        ("tool", 0) => Field::Tool,
        ("agent", 0) => Field::Agent,
        ("action_hint", 0) => Field::ActionHint,
        ("run", 0) => Field::Run,
        ("model", 0) => Field::Model,
        ("arguments", _) => Field::Arguments(steps.into()),
        ("labels", 1) => Field::Label(steps.remove(0)),
        _ => return None,
    })
}
