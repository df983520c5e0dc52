"""dbt on what is loaded: the date of a build, and its sources."""
