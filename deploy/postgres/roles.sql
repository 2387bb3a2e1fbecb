-- The login roles and the database of Runledger. Run once by a superuser when a
-- cluster is made; running it again changes nothing but the passwords.
--
--   RUNLEDGER_ROLES_PASSWORD=… psql -X -f deploy/postgres/roles.sql
--
-- The password comes as the psql variable `password`, or from that environment
-- variable, so that it need not stand in the arguments of a process. All roles get
-- the same one: give each its own afterwards (`\password <role>`) wherever the
-- database is more than a developer's.
--
-- What a role may do inside the database is granted by the migrations, schema by
-- schema. Here no role gets more than the right to sign in.

\set ON_ERROR_STOP on

\if :{?password}
\else
  \set password ''
  \getenv password RUNLEDGER_ROLES_PASSWORD
\endif
-- An empty password would lock the roles out.
SELECT :'password' = '' AS password_missing \gset
\if :password_missing
  \warn 'roles.sql: set RUNLEDGER_ROLES_PASSWORD, or the psql variable password'
  DO $$ BEGIN RAISE EXCEPTION 'no password for the roles'; END $$;
\endif

SELECT format('CREATE ROLE %I', wanted.name)
  FROM (VALUES ('runledger_migrator'),
               ('runledger_directory'),
               ('runledger_keys'),
               ('runledger_runs_writer'),
               ('runledger_runs_reader'),
               ('runledger_approvals_writer'),
               ('runledger_approvals_reader'),
               ('runledger_audit_writer'),
               ('runledger_audit_reader'),
               ('runledger_billing_writer'),
               ('runledger_billing_reader'),
               ('runledger_analytics_writer'),
               ('runledger_analytics_reader')) AS wanted (name)
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name)
\gexec

-- Said on every run, so that a right given by hand does not stay.
SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD %L',
              wanted.name, :'password')
  FROM (VALUES ('runledger_migrator'),
               ('runledger_directory'),
               ('runledger_keys'),
               ('runledger_runs_writer'),
               ('runledger_runs_reader'),
               ('runledger_approvals_writer'),
               ('runledger_approvals_reader'),
               ('runledger_audit_writer'),
               ('runledger_audit_reader'),
               ('runledger_billing_writer'),
               ('runledger_billing_reader'),
               ('runledger_analytics_writer'),
               ('runledger_analytics_reader')) AS wanted (name)
\gexec

-- Whom roles of dashboards belong to: it has their rights and signs in nowhere. They are made by
-- `runledger dashboard-role create`.
SELECT 'CREATE ROLE runledger_dashboard'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'runledger_dashboard')
\gexec
ALTER ROLE runledger_dashboard NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;

COMMENT ON ROLE runledger_dashboard IS 'may read the views of the schema dashboard; its members see one scope each';
COMMENT ON ROLE runledger_migrator    IS 'owns the database runledger and applies its migrations; used by `runledger migrate` alone';
COMMENT ON ROLE runledger_directory   IS 'writes the schema directory: tenants, principals, keys, limits';
COMMENT ON ROLE runledger_keys        IS 'may execute the key lookup function, which precedes the scope, and nothing else';
COMMENT ON ROLE runledger_runs_writer IS 'writes the read model runs; held by its projector alone';
COMMENT ON ROLE runledger_runs_reader IS 'reads the read model runs under row-level security, one scope a transaction';
COMMENT ON ROLE runledger_approvals_writer IS 'writes the schema approvals; held by its decider alone';
COMMENT ON ROLE runledger_approvals_reader IS 'reads the schema approvals under row-level security, one scope a transaction';
COMMENT ON ROLE runledger_audit_writer IS 'adds to the schema audit, and can neither change nor remove an entry; held by its projector alone';
COMMENT ON ROLE runledger_audit_reader IS 'reads the schema audit under row-level security, one scope a transaction';
COMMENT ON ROLE runledger_billing_writer IS 'writes the schemas billing and usage; held by the decider and the forwarder of billing alone';
COMMENT ON ROLE runledger_billing_reader IS 'reads the schemas billing and usage under row-level security, one scope a transaction';
COMMENT ON ROLE runledger_analytics_writer IS 'writes the schema analytics; held by its projector alone';
COMMENT ON ROLE runledger_analytics_reader IS 'reads the schema analytics under row-level security, one scope a transaction';

SELECT 'CREATE DATABASE runledger OWNER runledger_migrator'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'runledger')
\gexec

ALTER DATABASE runledger OWNER TO runledger_migrator;
REVOKE ALL ON DATABASE runledger FROM PUBLIC;
GRANT CONNECT ON DATABASE runledger
   TO runledger_directory, runledger_keys, runledger_runs_writer, runledger_runs_reader,
      runledger_approvals_writer, runledger_approvals_reader, runledger_audit_writer, runledger_audit_reader,
      runledger_billing_writer, runledger_billing_reader, runledger_analytics_writer, runledger_analytics_reader, runledger_dashboard;
