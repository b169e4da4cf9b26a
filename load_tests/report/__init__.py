"""What results say: tables, plots and a page, and whether the goals are met."""
