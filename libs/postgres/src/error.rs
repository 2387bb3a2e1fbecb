use sqlx::error::ErrorKind;

/// Whether `error` says something about the weather (the database is away, overloaded, shutting
/// down, or chose this transaction as the victim of a conflict) and not about what was asked.
/// Trying again later is right then, and only then.
pub fn is_weather(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_weather_code(&code)),
        _ => false,
    }
}

/// SQLSTATE classes 08 (connection), 53 (resources), 57P (shutdown), 58 (system), and the two
/// conflicts that Postgres resolves by ending a transaction; 25006: the primary became a standby.
fn is_weather_code(code: &str) -> bool {
    ["08", "53", "57P", "58"]
        .iter()
        .any(|class| code.starts_with(class))
        || matches!(code, "40001" | "40P01" | "55P03" | "57014" | "25006")
}

/// Whether `error` says something about the data of the statement: the same rows will be refused
/// again, and other rows would not be.
pub fn is_data_fault(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_data_code(&code)),
        _ => false,
    }
}

/// SQLSTATE classes 22 (a value that its type cannot hold) and 23 (a constraint), and 54000: a value
/// too large for its index.
fn is_data_code(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("23") || code == "54000"
}

/// The name of the constraint that `error` says was violated.
pub fn constraint(error: &sqlx::Error) -> Option<&str> {
    let error = error.as_database_error()?;
    match error.kind() {
        ErrorKind::UniqueViolation
        | ErrorKind::ForeignKeyViolation
        | ErrorKind::NotNullViolation
        | ErrorKind::CheckViolation
        | ErrorKind::ExclusionViolation => error.constraint(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_data_code, is_weather_code};

    #[test]
    fn weather_is_told_from_faults_by_the_code() {
        for code in ["08006", "53300", "57P01", "58030", "40001", "40P01"] {
            assert!(is_weather_code(code), "{code}");
        }
        for code in ["23505", "42P01", "22021", "42501"] {
            assert!(!is_weather_code(code), "{code}");
        }
    }

    #[test]
    fn data_is_told_from_everything_else_by_the_code() {
        for code in ["22021", "22P02", "23505", "23514", "54000"] {
            assert!(is_data_code(code) && !is_weather_code(code), "{code}");
        }
        for code in ["40001", "42P01", "42501", "53100", "54001", "57014"] {
            assert!(!is_data_code(code), "{code}");
        }
    }
}
