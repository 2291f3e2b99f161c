"""The books: statements of what a log costs, and what is made of them: differences, closed months, exports.

Every figure is a sum of lines of one :class:`~isocost.books.statement.Statement`; nothing here prices.
"""
