-- Run by each test server at its start (init-file): the user that tests connect as.
CREATE OR REPLACE USER 'weir'@'127.0.0.1' IDENTIFIED BY 'weir';
GRANT ALL ON *.* TO 'weir'@'127.0.0.1';
