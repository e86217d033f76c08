// Failure -- what the kit throws when that which was waited for does not happen.
#pragma once

#include <stdexcept>
#include <string>

namespace Net::SMTP::Test {

// what() says what was expected, what came instead, and, where there is one, the transcript of the dialogue until then.
class Failure : public std::runtime_error {
public:
    explicit Failure(const std::string& what) : std::runtime_error(what) {}
    Failure(const std::string& what, const std::string& transcript)
        : std::runtime_error(transcript.empty() ? what : what + "\n" + transcript) {}
};

}  // namespace Net::SMTP::Test
