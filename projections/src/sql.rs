//! The little that every table needs: arguments, statements over many rows, and reading columns.
//!
//! A statement through sqlx costs a hop to its connection's thread, so rows are always written and looked up
//! many at a time. The text is the portable subset: it runs on SQLite and on PostgreSQL alike.

use std::fmt::Write as _;

use malote_domain::Timestamp;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row, SqlSafeStr};

use crate::db::{DbError, failed};

/// Rows in one statement; the text of a full one is cached.
const ROWS: usize = 250;

/// Arguments of a statement, in their order.
#[derive(Default)]
pub(crate) struct Binds(Vec<Value>);

enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

impl Binds {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a text. PostgreSQL takes no NUL in one, so it becomes a replacement character.
    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.opt_text(Some(value))
    }

    pub(crate) fn opt_text(&mut self, value: Option<&str>) -> &mut Self {
        let clean = |text: &str| {
            if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
        };
        self.0.push(Value::Text(value.map(clean)));
        self
    }

    pub(crate) fn int(&mut self, value: i64) -> &mut Self {
        self.opt_int(Some(value))
    }

    pub(crate) fn opt_int(&mut self, value: Option<i64>) -> &mut Self {
        self.0.push(Value::Int(value));
        self
    }

    fn to(self, sql: impl SqlSafeStr) -> Query<'static, Any, AnyArguments> {
        self.0.into_iter().fold(sqlx::query(sql), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Int(number) => query.bind(number),
        })
    }
}

/// A stream position as a column holds it. NATS counts sequences in 64 bits but no stream gets past 63.
pub(crate) fn position(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// Runs one statement and tells how many rows it changed.
pub(crate) async fn execute(
    conn: &mut AnyConnection,
    sql: impl SqlSafeStr,
    binds: Binds,
    doing: &'static str,
) -> Result<u64, DbError> {
    let done = binds.to(sql).execute(conn).await.map_err(failed(doing))?;
    Ok(done.rows_affected())
}

/// Rows of one question.
pub(crate) async fn fetch(
    conn: &mut AnyConnection,
    sql: impl SqlSafeStr,
    binds: Binds,
    doing: &'static str,
) -> Result<Vec<AnyRow>, DbError> {
    binds.to(sql).fetch_all(conn).await.map_err(failed(doing))
}

/// Takes out what came after a place in a stream: each of `undo` with the place as `$1`, then each of `settle`.
pub(crate) async fn undo_after(
    conn: &mut AnyConnection,
    place: u64,
    undo: &[&'static str],
    settle: &[&'static str],
    doing: &'static str,
) -> Result<(), DbError> {
    for sql in undo {
        let mut binds = Binds::new();
        binds.int(position(place));
        execute(conn, *sql, binds, doing).await?;
    }
    for sql in settle {
        execute(conn, *sql, Binds::new(), doing).await?;
    }
    Ok(())
}

/// A statement over many rows: `before (…), (…) after`.
pub(crate) struct Rows {
    /// What precedes the rows, such as `INSERT INTO lot (lot, scope) VALUES`.
    pub(crate) before: &'static str,
    /// Columns of a row.
    pub(crate) columns: usize,
    /// What follows them, such as `ON CONFLICT …`.
    pub(crate) after: &'static str,
    /// What goes on, for an error.
    pub(crate) doing: &'static str,
}

impl Rows {
    /// Writes all rows and tells how many were changed.
    pub(crate) async fn write<R>(
        &self,
        conn: &mut AnyConnection,
        rows: &[R],
        bind: impl for<'b> Fn(&'b mut Binds, &R) -> &'b mut Binds,
    ) -> Result<u64, DbError> {
        let mut changed = 0;
        for rows in rows.chunks(ROWS) {
            #[cfg(test)]
            crate::testing::no_scan(conn, self.query(rows, &bind)).await;
            let done = self.query(rows, &bind).execute(&mut *conn).await.map_err(failed(self.doing))?;
            changed += done.rows_affected();
        }
        Ok(changed)
    }

    /// Asks for all rows.
    pub(crate) async fn read<R>(
        &self,
        conn: &mut AnyConnection,
        rows: &[R],
        bind: impl for<'b> Fn(&'b mut Binds, &R) -> &'b mut Binds,
    ) -> Result<Vec<AnyRow>, DbError> {
        let mut found = Vec::new();
        for rows in rows.chunks(ROWS) {
            #[cfg(test)]
            crate::testing::no_scan(conn, self.query(rows, &bind)).await;
            found.extend(self.query(rows, &bind).fetch_all(&mut *conn).await.map_err(failed(self.doing))?);
        }
        Ok(found)
    }

    fn query<R>(
        &self,
        rows: &[R],
        bind: &impl for<'b> Fn(&'b mut Binds, &R) -> &'b mut Binds,
    ) -> Query<'static, Any, AnyArguments> {
        // Arguments without a number: SQLite looks the name of a numbered one up in a list, so thousands of them
        // take a square of that. It is the one place where PostgreSQL will want another text.
        let marks = vec!["?"; self.columns].join(", ");
        let mut text = self.before.to_owned();
        let mut binds = Binds::new();
        for (at, row) in rows.iter().enumerate() {
            text.push_str(if at == 0 { " (" } else { "), (" });
            text.push_str(&marks);
            bind(&mut binds, row);
        }
        text.push(')');
        text.push(' ');
        text.push_str(self.after);
        binds.to(AssertSqlSafe(text)).persistent(rows.len() == ROWS)
    }
}

/// `($3, $4, $5)`: a list of `count` arguments from number `first` on.
pub(crate) fn tuple(first: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * 7 + 2);
    for number in first..first + count {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}${number}", if number == first { "(" } else { ", " });
    }
    text.push(')');
    text
}

/// Reads a row's columns by name.
pub(crate) struct Columns<'r>(pub(crate) &'r AnyRow);

impl Columns<'_> {
    pub(crate) fn text(&self, name: &'static str) -> Result<String, DbError> {
        self.0.try_get(name).map_err(failed("reading a column"))
    }

    pub(crate) fn opt_text(&self, name: &'static str) -> Result<Option<String>, DbError> {
        self.0.try_get(name).map_err(failed("reading a column"))
    }

    pub(crate) fn int(&self, name: &'static str) -> Result<i64, DbError> {
        self.0.try_get(name).map_err(failed("reading a column"))
    }

    pub(crate) fn opt_int(&self, name: &'static str) -> Result<Option<i64>, DbError> {
        self.0.try_get(name).map_err(failed("reading a column"))
    }

    /// A column that is never negative.
    pub(crate) fn count(&self, name: &'static str) -> Result<u64, DbError> {
        let value = self.int(name)?;
        u64::try_from(value).map_err(|_| DbError::Value { column: name, value: value.to_string() })
    }

    /// A column that is never negative, where it has a value.
    pub(crate) fn opt_count(&self, name: &'static str) -> Result<Option<u64>, DbError> {
        let Some(value) = self.opt_int(name)? else { return Ok(None) };
        u64::try_from(value).map(Some).map_err(|_| DbError::Value { column: name, value: value.to_string() })
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, DbError> {
        Ok(self.int(name)? != 0)
    }

    /// An instant, as RFC 3339.
    pub(crate) fn time(&self, name: &'static str) -> Result<String, DbError> {
        Ok(rfc3339(self.int(name)?))
    }

    /// An instant, as RFC 3339, where there is one.
    pub(crate) fn opt_time(&self, name: &'static str) -> Result<Option<String>, DbError> {
        Ok(self.opt_int(name)?.map(rfc3339))
    }

    /// A column that holds something of the domain.
    pub(crate) fn parse<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, DbError> {
        let text = self.text(name)?;
        parse(&text).ok_or(DbError::Value { column: name, value: text })
    }
}

fn rfc3339(micros: i64) -> String {
    Timestamp::from_micros(micros).to_string()
}
