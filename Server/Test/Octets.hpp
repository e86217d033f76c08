// Octets -- octets as text that a person can read, and back; and the beginnings of commands.
#pragma once

#include <string>
#include <string_view>

namespace Net::SMTP::Test {

// Printable ASCII as it is, \r and \n, and \xHH for everything else. A backslash stays one.
std::string escaped(std::string_view octets);

// Undoes \r \n \t \0 \\ and \xHH; any other octet behind a backslash is itself. std::invalid_argument names what
// follows an \x and is no hexadecimal number of two digits.
std::string unescaped(std::string_view text);

// Whether a command begins so; letters without case.
bool begins(std::string_view command, std::string_view beginning);

// What was said on a connection, a line for each piece ("S: 220 mx\r\n"). Of a long piece the first 300 octets are
// kept, of a long dialogue the beginning and the end, 8 KiB together.
class Transcript {
public:
    void note(std::string_view who, std::string_view octets);
    const std::string& str() const { return text_; }

private:
    std::string text_;
};

}  // namespace Net::SMTP::Test
