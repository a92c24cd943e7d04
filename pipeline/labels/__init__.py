"""Labels: questions exported, answers imported, checked and counted."""
