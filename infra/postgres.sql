-- Runs once, when the volume is empty; the database of MLflow exists already.
CREATE DATABASE prefect;
