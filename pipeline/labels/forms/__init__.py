"""Forms of questions and answers, and the values in them."""
