"""Tests of tokenbudget. They mirror the package, plus scenarios, contract and bench."""
