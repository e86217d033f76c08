// passwd -- makes a line for an AuthFile, which holds SCRAM keys and not the password: passwd USER < PASSWORD >> FILE
#include <Net/SMTP/Server/AuthFile.hpp>

#include <iostream>
#include <stdexcept>
#include <string>

int main(int argc, char** argv) try {
    if (argc != 2) {
        std::cerr << "usage: passwd USER    (the password is read from standard input, one line)\n";
        return 2;
    }
    std::string password;
    if (!std::getline(std::cin, password) || password.empty()) throw std::runtime_error("no password");
    std::cout << Net::SMTP::auth_line(argv[1], password) << std::endl;
    return std::cout ? 0 : 1;
} catch (const std::exception& e) {
    std::cerr << "passwd: " << e.what() << "\n";
    return 1;
}
