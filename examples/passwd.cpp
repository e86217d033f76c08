// passwd -- makes a line for an AuthFile, which holds SCRAM keys and not the password: passwd USER < PASSWORD >> FILE
#include <Net/SMTP/Server/AuthFile.hpp>

#include <iostream>
#include <stdexcept>
#include <string>

#include "arguments.hpp"

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv,
        "Makes the line of a user for the file of --auth-file, which holds keys and not the password.\n"
        "The password is a line on standard input. None but its owner may read the file:\n\n"
        "  umask 077; passwd USER < PASSWORD >> FILE",
        {}, "USER");
    std::string password;
    if (!std::getline(std::cin, password) || password.empty()) throw std::runtime_error("no password");
    std::cout << Net::SMTP::auth_line(given("USER"), password) << std::endl;
    return std::cout ? 0 : 1;
} catch (const std::exception& e) {
    std::cerr << "passwd: " << e.what() << "\n";
    return 1;
}
