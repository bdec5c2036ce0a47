// What the loader knows itself by: one node that says what is served, one for each migration that ran, and one that the
// loader at work has taken over. All are made by the loader, not here.
CREATE CONSTRAINT mmkg_store_key IF NOT EXISTS FOR (s:MmkgStore) REQUIRE s.key IS UNIQUE;
CREATE CONSTRAINT mmkg_migration_version IF NOT EXISTS FOR (m:MmkgMigration) REQUIRE m.version IS UNIQUE;
CREATE CONSTRAINT mmkg_lane IF NOT EXISTS FOR (l:MmkgLane) REQUIRE l.lane IS UNIQUE;
