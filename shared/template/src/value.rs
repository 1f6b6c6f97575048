//! Values as templates see them: Go's types, as far as a template can distinguish them.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::certificate::Certificate;
use crate::dates::Time;
use crate::error::{Fault, Limit};
use crate::number;
use crate::semver::Version;
use crate::text::Text;

/// Maximum nesting of lists. Bounds the recursion when a list is dropped.
const MAX_NESTED_LISTS: u16 = 100;

/// A value in a template.
#[derive(Clone)]
pub(crate) enum Value {
    /// No value: a missing key. Shown as `<no value>`.
    Missing,
    /// A nil inside a list or map, or as an argument. As the result of a command, it becomes [`Value::Missing`].
    Nil,
    Bool(bool),
    Int(Int),
    Float(f64),
    Complex(f64, f64),
    Text(Text),
    List(List),
    Map(Map),
    Time(Time),
    /// `*semver.Version`, or `semver.Version` if a method returned it.
    Version(Rc<Version>, Pointer),
    Certificate(Rc<Certificate>),
}

/// Whether the Go value is a pointer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointer {
    Yes,
    No,
}

/// An integer of one of Go's types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Int {
    pub(crate) kind: IntKind,
    /// The bits in two's complement; unsigned types reinterpret them.
    pub(crate) bits: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IntKind {
    Int,
    Int64,
    Uint8,
    Uint32,
    Uint64,
    Duration,
    Month,
    Weekday,
}

impl Int {
    pub(crate) fn is_signed(self) -> bool {
        !matches!(
            self.kind,
            IntKind::Uint8 | IntKind::Uint32 | IntKind::Uint64
        )
    }

    pub(crate) fn unsigned_bits(self) -> u64 {
        self.bits.cast_unsigned()
    }

    pub(crate) fn to_float(self) -> f64 {
        if self.is_signed() {
            number::int_to_float(self.bits)
        } else {
            number::uint_to_float(self.unsigned_bits())
        }
    }

    pub(crate) fn to_i128(self) -> i128 {
        if self.is_signed() {
            i128::from(self.bits)
        } else {
            i128::from(self.unsigned_bits())
        }
    }
}

/// The element type of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListKind {
    /// `[]interface {}`
    Any,
    /// `[]string`
    Text,
    /// `[]int`
    Int,
    /// `[][]interface {}`
    Lists,
    /// `[]uint8`
    Bytes,
}

/// A list, or a slice of another list. A slice shares its items with the list, because `sortAlpha` sorts a `[]string`
/// in place.
#[derive(Clone)]
pub(crate) struct List {
    pub(crate) kind: ListKind,
    /// Whether the list is Go's nil list: empty, and `null` in JSON.
    pub(crate) nil: bool,
    items: Rc<RefCell<Vec<Value>>>,
    start: usize,
    len: usize,
    nested: u16,
}

impl List {
    pub(crate) fn new(kind: ListKind, items: Vec<Value>) -> Result<Self, Fault> {
        let deepest = items
            .iter()
            .map(|item| {
                if let Value::List(list) = item {
                    list.nested
                } else {
                    0
                }
            })
            .max();
        let nested = deepest.unwrap_or(0) + 1;
        if nested > MAX_NESTED_LISTS {
            return Err(Fault::limit(Limit::Depth));
        }
        Ok(Self {
            kind,
            nil: false,
            start: 0,
            len: items.len(),
            items: Rc::new(RefCell::new(items)),
            nested,
        })
    }

    pub(crate) fn nil(kind: ListKind) -> Self {
        Self {
            kind,
            nil: true,
            start: 0,
            len: 0,
            items: Rc::default(),
            nested: 1,
        }
    }

    pub(crate) fn texts(items: impl IntoIterator<Item = Text>) -> Self {
        let items: Vec<Value> = items.into_iter().map(Value::Text).collect();
        Self {
            kind: ListKind::Text,
            nil: false,
            start: 0,
            len: items.len(),
            items: Rc::new(RefCell::new(items)),
            nested: 1,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn item(&self, at: usize) -> Option<Value> {
        if at < self.len {
            self.items.borrow().get(self.start + at).cloned()
        } else {
            None
        }
    }

    pub(crate) fn items(&self) -> Vec<Value> {
        self.view().to_vec()
    }

    /// Borrows the items; a copy of a long list costs more than reading its first items.
    pub(crate) fn view(&self) -> Ref<'_, [Value]> {
        Ref::map(self.items.borrow(), |items| {
            &items[self.start..self.start + self.len]
        })
    }

    /// Returns the items from `start` up to `end`; `None` if that is not a range of the list.
    pub(crate) fn part(&self, start: usize, end: usize) -> Option<Self> {
        let len = end.checked_sub(start)?;
        (end <= self.len).then(|| Self {
            start: self.start + start,
            len,
            ..self.clone()
        })
    }

    /// Sorts a list of strings in place. This also sorts each list that shares its items.
    pub(crate) fn sort_texts(&self) {
        self.items.borrow_mut()[self.start..self.start + self.len].sort_by(|a, b| match (a, b) {
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        });
    }

    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.items, &other.items) && self.start == other.start && self.len == other.len
    }
}

/// The value type of a map; keys are always strings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MapKind {
    /// `map[string]interface {}`
    Any,
    /// `map[string]string`: the values to render with, and the results of `split` and `splitn`.
    Text,
}

pub(crate) type Entries = BTreeMap<Text, Value>;

/// A map, shared and mutable like Go's maps.
#[derive(Clone)]
pub(crate) struct Map {
    pub(crate) kind: MapKind,
    /// Whether the map is Go's nil map: empty and read-only.
    pub(crate) nil: bool,
    entries: Rc<RefCell<Entries>>,
}

impl Map {
    /// Creates a map that the environment does not register. The environment creates the maps of kind
    /// [`MapKind::Any`], and breaks their cycles at the end.
    pub(crate) fn unregistered(kind: MapKind, entries: Entries) -> Self {
        Self {
            kind,
            nil: false,
            entries: Rc::new(RefCell::new(entries)),
        }
    }

    pub(crate) fn nil() -> Self {
        Self {
            kind: MapKind::Any,
            nil: true,
            entries: Rc::default(),
        }
    }

    pub(crate) fn entries(&self) -> Ref<'_, Entries> {
        self.entries.borrow()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Value> {
        self.entries.borrow().get(key).cloned()
    }

    pub(crate) fn set(&self, key: Text, value: Value) {
        self.entries.borrow_mut().insert(key, value);
    }

    pub(crate) fn remove(&self, key: &Text) {
        self.entries.borrow_mut().remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    pub(crate) fn take_entries(&self) -> Entries {
        self.entries.take()
    }

    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.entries, &other.entries)
    }
}

impl Value {
    pub(crate) fn int(value: i64) -> Self {
        Self::Int(Int {
            kind: IntKind::Int,
            bits: value,
        })
    }

    pub(crate) fn int64(value: i64) -> Self {
        Self::Int(Int {
            kind: IntKind::Int64,
            bits: value,
        })
    }

    pub(crate) fn uint64(value: u64) -> Self {
        Self::Int(Int {
            kind: IntKind::Uint64,
            bits: value.cast_signed(),
        })
    }

    pub(crate) fn count(value: usize) -> Self {
        Self::int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(crate) fn text(value: impl Into<Text>) -> Self {
        Self::Text(value.into())
    }

    /// Returns whether the value is nil or missing.
    pub(crate) fn is_nil(&self) -> bool {
        matches!(self, Self::Missing | Self::Nil)
    }

    /// Returns the truth value for `if`, `and`, `or` and `not`.
    pub(crate) fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(int) => int.bits != 0,
            Self::Float(value) => *value != 0.0,
            Self::Complex(real, imaginary) => *real != 0.0 || *imaginary != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => list.len() > 0,
            Self::Map(map) => map.len() > 0,
            Self::Time(_) | Self::Version(..) | Self::Certificate(_) => true,
        }
    }

    /// Returns Go's name of the type, as `%T` shows it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(int) => match int.kind {
                IntKind::Int => "int",
                IntKind::Int64 => "int64",
                IntKind::Uint8 => "uint8",
                IntKind::Uint32 => "uint32",
                IntKind::Uint64 => "uint64",
                IntKind::Duration => "time.Duration",
                IntKind::Month => "time.Month",
                IntKind::Weekday => "time.Weekday",
            },
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::Text(_) => "string",
            Self::List(list) => match list.kind {
                ListKind::Any => "[]interface {}",
                ListKind::Text => "[]string",
                ListKind::Int => "[]int",
                ListKind::Lists => "[][]interface {}",
                ListKind::Bytes => "[]uint8",
            },
            Self::Map(map) => match map.kind {
                MapKind::Any => "map[string]interface {}",
                MapKind::Text => "map[string]string",
            },
            Self::Time(_) => "time.Time",
            Self::Version(_, Pointer::Yes) => "*semver.Version",
            Self::Version(_, Pointer::No) => "semver.Version",
            Self::Certificate(_) => "sprig.certificate",
        }
    }

    /// Returns Go's name of the kind, as `kindOf` shows it.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "invalid",
            Self::Int(int) => match int.kind {
                IntKind::Duration => "int64",
                IntKind::Month | IntKind::Weekday => "int",
                _ => self.type_name(),
            },
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Version(_, Pointer::Yes) => "ptr",
            Self::Time(_) | Self::Version(..) | Self::Certificate(_) => "struct",
            _ => self.type_name(),
        }
    }

    /// Returns the bytes that a new value takes from the memory budget.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => 32 + text.len(),
            Self::List(list) => 64 + 32 * list.len(),
            Self::Map(map) => 64 + 64 * map.len(),
            Self::Version(version, _) => 256 + version.len(),
            Self::Certificate(certificate) => 256 + certificate.len(),
            _ => 16,
        }
    }

    /// Returns the steps for comparing, copying or writing the value. Items of lists and maps are charged
    /// separately; writing a float or a time takes some microseconds.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Text(text) => 1 + text.len() / 64,
            Self::Version(version, _) => 1 + version.len() / 64,
            Self::Certificate(certificate) => 1 + certificate.len() / 64,
            Self::Float(_) | Self::Complex(..) => 4,
            Self::Time(_) => 8,
            _ => 1,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Text> for Value {
    fn from(value: Text) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Text(value.into())
    }
}

impl From<List> for Value {
    fn from(value: List) -> Self {
        Self::List(value)
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Self::Map(value)
    }
}
