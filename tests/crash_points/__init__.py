"""The simulation's engine and exchanges on the real adapters and a real database, killed at every point of one trade.

The database is SQLite or PostgreSQL as it runs in life, behind the platform's own store, database threads and lease.
Time is virtual and stands still while the database works, so that a run can be repeated and every point of it named.
"""
